//! What can be wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something that is written is wrong; each problem has its place.
    #[error("{}", join(.0))]
    Invalid(Vec<Diagnostic>),
    /// A file that a run refers to is there, but not what it should be.
    #[error("{}: {reason}; {remedy}", path.display())]
    Fact {
        /// The file.
        path: PathBuf,
        /// What was found, and what is expected.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// A configuration cannot be expressed in TOML.
    #[error("the configuration cannot be written as TOML: {reason}")]
    Unwritable {
        /// Which value, and why.
        reason: String,
    },
}

/// One problem and its place in a file (or in a `--set`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, or `--set`.
    pub file: PathBuf,
    /// The whole text of the file.
    pub source_text: Arc<str>,
    /// The bytes of the text that the problem is about.
    pub span: Range<usize>,
    /// What was found, and what is expected.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The line and the column where the problem begins, both counted from one; columns count
    /// characters.
    #[must_use]
    pub fn line_and_column(&self) -> (usize, usize) {
        line_and_column(&self.source_text, self.span.start)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(f, "{}:{line}:{column}: {}", self.file.display(), self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The problems with a place, for a renderer that shows the source.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Invalid(diagnostics) => diagnostics,
            _ => &[],
        }
    }
}

pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn join(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_as_people_count() {
        let text = "a = 1\nnäme = 2\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, text.find('=').unwrap()), (1, 3));
        assert_eq!(line_and_column(text, text.rfind('=').unwrap()), (2, 6));
        assert_eq!(line_and_column(text, 10_000), (3, 1));
    }
}
