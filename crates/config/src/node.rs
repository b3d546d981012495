//! A TOML document as a tree that remembers where each value was written.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Diagnostic, line_and_column};

/// A text that values come from: a file, or one `--set`.
#[derive(Clone, Debug)]
pub(crate) struct SourceText {
    /// The file's name, or `--set`.
    pub(crate) name: PathBuf,
    /// The folder that relative paths in this text begin at; absolute.
    pub(crate) base: PathBuf,
    pub(crate) text: Arc<str>,
    pub(crate) is_override: bool,
}

/// A place in one of the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) text: usize,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    Integer(i128),
    Float {
        written: String,
        value: f64,
    },
    Boolean(bool),
    Array(Vec<Node>),
    Table(Vec<Entry>),
    /// What no key of ours takes, in words.
    Foreign(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_origin: Origin,
    pub(crate) node: Node,
}

/// A whole configuration: the merged tree, and the texts it was merged from.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) texts: Vec<SourceText>,
    pub(crate) root: Node,
}

/// The way from the root to a value: `stages`, `0`, `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPath(pub(crate) Vec<String>);

impl KeyPath {
    /// A path of keys without dots in them, separated by dots.
    pub(crate) fn new(dotted: &str) -> Self {
        Self(dotted.split('.').map(str::to_owned).collect())
    }

    pub(crate) fn child(&self, key: impl ToString) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.to_string());
        Self(keys)
    }
}

impl std::fmt::Display for KeyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl Node {
    pub(crate) fn child(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            Value::Array(nodes) => nodes.get(key.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Reads a parsed table, whose spans count from `offset`.
    pub(crate) fn from_table(table: &Spanned<DeTable<'_>>, text: usize, offset: usize) -> Self {
        let origin = Origin { text, span: shift(table.span(), offset) };
        Self { value: table_value(table.get_ref(), text, offset), origin }
    }

    /// Reads a parsed value, whose spans count from `offset`.
    pub(crate) fn from_value(value: &Spanned<DeValue<'_>>, text: usize, offset: usize) -> Self {
        let origin = Origin { text, span: shift(value.span(), offset) };
        let value = match value.get_ref() {
            DeValue::String(string) => Value::String(string.clone().into_owned()),
            DeValue::Integer(integer) => {
                match i128::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(integer) => Value::Integer(integer),
                    Err(_) => Value::Foreign("an integer of more than 64 bits".to_owned()),
                }
            }
            DeValue::Float(float) => Value::Float {
                written: float.as_str().to_owned(),
                value: float.as_str().parse().unwrap_or(f64::NAN),
            },
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(datetime) => Value::Foreign(format!("the date {datetime}")),
            DeValue::Array(array) => {
                Value::Array(array.iter().map(|v| Self::from_value(v, text, offset)).collect())
            }
            DeValue::Table(table) => table_value(table, text, offset),
        };
        Self { value, origin }
    }

    /// Lays `over` on top: tables merge key by key, anything else replaces.
    pub(crate) fn merge(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Value::Table(below), Value::Table(above)) => {
                self.origin = over.origin;
                for entry in above {
                    match below.iter_mut().find(|e| e.key == entry.key) {
                        Some(existing) => {
                            existing.key_origin = entry.key_origin;
                            existing.node.merge(entry.node);
                        }
                        None => below.push(entry),
                    }
                }
            }
            (below, above) => {
                *below = above;
                self.origin = over.origin;
            }
        }
    }

    /// Takes a key out of a table.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Self> {
        let Value::Table(entries) = &mut self.value else {
            return None;
        };
        let position = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(position).node)
    }
}

fn table_value(table: &DeTable<'_>, text: usize, offset: usize) -> Value {
    let entry =
        |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
            key: key.get_ref().clone().into_owned(),
            key_origin: Origin { text, span: shift(key.span(), offset) },
            node: Node::from_value(value, text, offset),
        };
    Value::Table(table.iter().map(entry).collect())
}

fn shift(span: Range<usize>, offset: usize) -> Range<usize> {
    span.start + offset..span.end + offset
}

impl Document {
    /// The value at a path, if it was written.
    pub(crate) fn get(&self, path: &KeyPath) -> Option<&Node> {
        path.0.iter().try_fold(&self.root, |node, key| node.child(key))
    }

    /// Where the value at a path was written, or else the nearest table around it.
    pub(crate) fn origin(&self, path: &KeyPath) -> &Origin {
        let mut nearest = &self.root;
        for key in &path.0 {
            match nearest.child(key) {
                Some(child) => nearest = child,
                None => break,
            }
        }
        &nearest.origin
    }

    /// A problem with the value at a path.
    pub(crate) fn diagnostic(
        &self,
        path: &KeyPath,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        diagnostic(&self.texts, self.origin(path), message, help)
    }

    /// The text that a value was written in, and the line.
    pub(crate) fn place(&self, node: &Node) -> (&SourceText, usize) {
        let text = &self.texts[node.origin.text];
        (text, line_and_column(&text.text, node.origin.span.start).0)
    }
}

pub(crate) fn diagnostic(
    texts: &[SourceText],
    origin: &Origin,
    message: impl Into<String>,
    help: Option<String>,
) -> Diagnostic {
    let text = &texts[origin.text];
    Diagnostic {
        file: text.name.clone(),
        source_text: Arc::clone(&text.text),
        span: origin.span.clone(),
        message: message.into(),
        help,
    }
}

/// The folder of a file, absolute.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new(""));
    // Where the system cannot tell the current folder, relative paths stay relative to it.
    let absolute = std::path::absolute(Path::new(".").join(folder));
    crate::path::normalize(&absolute.unwrap_or_else(|_| folder.to_owned()))
}
