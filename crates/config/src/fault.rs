//! What serde reports, turned into words with a place.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

use crate::error::Diagnostic;
use crate::node::{Document, Origin, diagnostic};

/// What serde reports, on its way up to the root: the path grows, the first origin stays.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: Kind,
    help: Option<String>,
    origin: Option<Origin>,
    path: Vec<String>,
}

/// What is wrong: a key, or a value.
#[derive(Debug)]
pub(crate) enum Kind {
    UnknownKey(String),
    MissingKey(&'static str),
    Value(String),
}

impl Fault {
    pub(crate) fn new(kind: Kind, help: Option<String>) -> Self {
        Self { kind, help, origin: None, path: Vec::new() }
    }

    pub(crate) fn at(mut self, origin: &Origin) -> Self {
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    pub(crate) fn within(mut self, key: impl ToString) -> Self {
        self.path.insert(0, key.to_string());
        self
    }

    pub(crate) fn into_diagnostic(self, document: &Document) -> Diagnostic {
        let origin = self.origin.unwrap_or_else(|| document.root.origin.clone());
        let full = |key: &str| {
            let keys = self.path.iter().map(String::as_str).chain([key]).collect::<Vec<_>>();
            keys.join(".")
        };
        let message = match self.kind {
            Kind::UnknownKey(key) => format!("unknown key `{}`", full(&key)),
            Kind::MissingKey(key) => format!("the key `{}` is missing", full(key)),
            Kind::Value(problem) if self.path.is_empty() => problem,
            Kind::Value(problem) => format!("`{}`: {problem}", self.path.join(".")),
        };
        diagnostic(&document.texts, &origin, message, self.help)
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(Kind::Value(message.to_string()), None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Map => "a table".to_owned(),
            Unexpected::Seq => "an array".to_owned(),
            Unexpected::Str(text) => format!("the string {text:?}"),
            Unexpected::Bool(boolean) => format!("`{boolean}`"),
            Unexpected::Unsigned(integer) => format!("the integer {integer}"),
            Unexpected::Signed(integer) => format!("the integer {integer}"),
            Unexpected::Float(float) => format!("the number {float}"),
            other => other.to_string(),
        };
        Self::new(Kind::Value(format!("found {found}, expected {}", plain(expected))), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey(field.to_owned()), Some(suggest(field, expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let quoted: Vec<String> = expected.iter().map(|text| format!("{text:?}")).collect();
        let problem = format!("found {variant:?}, expected {}", quoted.join(" or "));
        let help = closest(variant, expected).map(|near| format!("did you mean {near:?}?"));
        Self::new(Kind::Value(problem), help)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::MissingKey(field), None)
    }
}

/// Says in words what serde calls by Rust's type names.
fn plain(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u64" | "usize" => "an integer that is zero or more".to_owned(),
        "u32" => format!("an integer from 0 to {}", u32::MAX),
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a map" => "a table".to_owned(),
        "a sequence" => "an array".to_owned(),
        _ if text.starts_with("struct ") => "a table".to_owned(),
        _ => text,
    }
}

fn suggest(found: &str, expected: &[&str]) -> String {
    let mut names: Vec<&str> = expected.to_vec();
    names.sort_unstable();
    match (closest(found, expected), names.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, true) => "there are no keys here".to_owned(),
        (None, false) => format!("the keys here are {}", names.join(", ")),
    }
}

/// The candidate with the fewest edits, if these are few for the length of the word.
pub(crate) fn closest<'a>(found: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let (distance, nearest) = candidates.iter().map(|c| (edit_distance(found, c), *c)).min()?;
    (distance <= 1 + found.chars().count() / 4).then_some(nearest)
}

/// The number of insertions, deletions and replacements between two words (Levenshtein 1965).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        let keys = ["sequence_length", "recompute", "precision"];
        assert_eq!(closest("sequence_lenght", &keys), Some("sequence_length"));
        assert_eq!(closest("recompte", &keys), Some("recompute"));
        assert_eq!(closest("colour", &keys), None);
    }
}
