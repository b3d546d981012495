//! How long the logs were when the state was saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The length in bytes of each log of the run, by file name.
///
/// A resumed run cuts each log back to it, so that no step is logged twice. The logs must be on
/// disk before the checkpoint is finished, or after a power cut they may be shorter than this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogPositions(BTreeMap<String, u64>);

impl LogPositions {
    /// No log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the length of a log.
    #[must_use]
    pub fn with(mut self, file_name: &str, bytes: u64) -> Self {
        self.0.insert(file_name.to_owned(), bytes);
        self
    }

    /// How long a log was, or nothing if it was not there.
    #[must_use]
    pub fn of(&self, file_name: &str) -> Option<u64> {
        self.0.get(file_name).copied()
    }

    /// All logs, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), *bytes))
    }
}
