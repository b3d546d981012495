//! Items that stand in what a model was trained on.
//!
//! [`contents`] says what an item is by itself, which a corpus is searched for when it is prepared; what
//! was found is written as one [`ItemContamination`] per line. [`Flagged`] reads that again, and a report
//! then has scores on [clean items apart from flagged ones](CleanAndFlagged).

mod content;
mod flagged;
mod scores;
mod words;

use serde::{Deserialize, Serialize};
use terrace_base::Fingerprint;
use terrace_config::ContaminationAction;

pub use content::{Content, contents};
pub use flagged::{Flagged, Standing};
pub use scores::{CleanAndFlagged, PartScores};

pub(crate) use scores::{Standings, table};

/// The name of the file of [`ItemContamination`]s in the folder of an edition.
pub const CONTAMINATION_FILE: &str = "contamination.jsonl";

/// What the documents of a source have of one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemContamination {
    /// The task's name.
    pub task: String,
    /// The subset, or nothing.
    pub subset: String,
    /// The place in the subset, counted from 0.
    pub index: usize,
    /// The hash of the item's own text: [`Content::hash`].
    pub item: Fingerprint,
    /// The source that was searched.
    pub source: String,
    /// What became of documents that share n-grams with an item.
    pub action: ContaminationAction,
    /// N-grams of the item that were looked for; without any it cannot be found.
    pub ngrams: u64,
    /// Documents that share at least one with it, copies counted each.
    pub documents: u64,
    /// The largest share of the item's n-grams that one document has, between 0 and 1.
    pub share: f64,
    /// That document; the first of several.
    pub closest: Option<DocumentPlace>,
}

/// Where a document was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentPlace {
    /// The file's name, without its folder.
    pub file: String,
    /// Its row, counted from 0.
    pub row: u64,
}
