//! Where each value of a configuration came from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::load::Loaded;
use crate::node::KeyPath;

/// One value and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The path of keys, such as `stages.0.budget_tokens`.
    pub key: String,
    /// The value as used; null if it is not set.
    pub value: Value,
    /// The value as written, where that reads differently.
    pub written: Option<String>,
    /// Where it came from.
    pub from: Provenance,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Nobody wrote it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
    },
    /// A `--set` on the command line.
    Set,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Set => f.write_str("--set"),
        }
    }
}

impl<C: Serialize> Loaded<C> {
    /// Every value of the configuration, in the order of the language, with where it came from.
    #[must_use]
    pub fn explain(&self) -> Vec<Explanation> {
        let tree = serde_json::to_value(&self.config).expect("a configuration is plain data");
        let mut found = Vec::new();
        self.walk(&tree, &KeyPath(Vec::new()), &mut found);
        found
    }

    fn walk(&self, value: &Value, path: &KeyPath, found: &mut Vec<Explanation>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| self.walk(value, &path.child(key), found));
            }
            Value::Array(values) if values.iter().any(Value::is_object) => {
                let numbered = values.iter().enumerate();
                numbered.for_each(|(i, value)| self.walk(value, &path.child(i), found));
            }
            leaf => found.push(self.explain_leaf(leaf, path)),
        }
    }

    fn explain_leaf(&self, value: &Value, path: &KeyPath) -> Explanation {
        let node = self.document.get(path);
        let from = node.map_or(Provenance::Default, |node| match self.document.place(node) {
            (text, _) if text.is_override => Provenance::Set,
            (text, line) => Provenance::File { path: text.name.clone(), line },
        });
        let written = node
            .map(|node| {
                let (text, _) = self.document.place(node);
                text.text[node.origin.span.clone()].trim_matches('"').to_owned()
            })
            .filter(|written| *written != plain(value));
        Explanation { key: path.to_string(), value: value.clone(), written, from }
    }
}

/// Lays explanations out for people, one value a line.
#[must_use]
pub fn render_explanation(explanations: &[Explanation]) -> String {
    let value = |e: &Explanation| match &e.value {
        Value::Null => "not set".to_owned(),
        value => plain(value),
    };
    let longest =
        |text: fn(&Explanation) -> usize| explanations.iter().map(text).max().unwrap_or(0);
    let keys = longest(|e| e.key.len());
    let values = explanations.iter().map(|e| value(e).len()).max().unwrap_or(0).min(48);
    let mut text = String::new();
    for explanation in explanations {
        let written = match &explanation.written {
            Some(written) => format!(", written {written}"),
            None => String::new(),
        };
        let (key, value) = (&explanation.key, value(explanation));
        text += &format!("{key:keys$}  {value:values$}  {}{written}\n", explanation.from);
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
