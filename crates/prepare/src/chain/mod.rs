//! The chain from rows to tokenised documents: pure functions on record batches.
//!
//! Nothing here knows a file, a thread or a clock, and no function looks beyond its batch, so that
//! any engine can run the chain on any division of the input. [`Chain`] composes the steps up to
//! the place where documents have to meet (deduplication and order, in [`order`]).

pub mod columns;
pub mod contamination;
mod filter;
mod hash;
mod lines;
mod normalize;
mod order;
mod tokenize;
mod validate;

use std::collections::HashSet;

use arrow::array::RecordBatch;
use terrace_config::Normalization;
use terrace_data::{BadRowKind, Counts};
use terrace_tokenizer::Tokenizer;

pub use contamination::{Contaminants, Found};
pub use filter::LengthFilter;
pub use hash::{ContentHash, hash, remove_known};
pub use lines::parse_lines;
pub use normalize::normalize;
pub use order::{Ordering, order, partition_of, sort_key};
pub use tokenize::{Refused, tokenize};
pub use validate::validate;

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejected {
    /// Number of the file in the list of inputs.
    pub file: u32,
    /// Row in the file, from 0.
    pub row: u64,
    /// What the identifier column says.
    pub id: Option<String>,
    /// Why.
    pub kind: BadRowKind,
}

/// Rows before the chain.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Columns as [`columns::raw_schema`] says.
    Raw(RecordBatch),
    /// Columns as [`columns::lines_schema`] says.
    Lines(RecordBatch),
}

/// What the chain makes of some rows.
#[derive(Clone, Debug)]
pub struct Processed {
    /// Columns as [`columns::tokenized_schema`] says.
    pub documents: RecordBatch,
    /// What became of the rows; `kept` and `duplicate` are not known yet and 0.
    pub counts: Counts,
    /// The rows that cannot be used.
    pub rejected: Vec<Rejected>,
    /// What was found of the items of tasks.
    pub found: Found,
}

/// Everything that decides what a row becomes.
pub struct Chain<'a> {
    /// The column that holds the text.
    pub text_column: &'a str,
    /// The column that identifies a row in reports.
    pub id_column: Option<&'a str>,
    /// Larger documents are bad rows.
    pub maximum_document_bytes: u64,
    /// How text is normalised.
    pub normalization: Normalization,
    /// Which lengths are kept.
    pub lengths: LengthFilter,
    /// Documents that are held out.
    pub held_out: &'a HashSet<ContentHash>,
    /// What is looked for of the items of tasks.
    pub contaminants: Option<Contaminants<'a>>,
    /// What makes tokens.
    pub tokenizer: &'a Tokenizer,
    /// What ends each document.
    pub eos: Option<u32>,
}

impl Chain<'_> {
    /// Runs all steps on some rows.
    ///
    /// # Errors
    ///
    /// The tokenizer refuses a document.
    pub fn apply(&self, rows: Rows) -> Result<Processed, Refused> {
        let mut counts = Counts::default();
        let (raw, mut rejected) = match rows {
            Rows::Raw(raw) => (raw, Vec::new()),
            Rows::Lines(lines) => parse_lines(lines, self.text_column, self.id_column),
        };
        counts.read = (raw.num_rows() + rejected.len()) as u64;
        let (documents, more) = validate(raw, self.maximum_document_bytes);
        rejected.extend(more);
        for row in &rejected {
            counts.bad.add(row.kind);
        }
        let documents = normalize(documents, self.normalization);
        let (documents, dropped) = self.lengths.apply(documents);
        counts.dropped = dropped;
        let (documents, in_held_out) = remove_known(hash(documents), self.held_out);
        counts.dropped.in_held_out = in_held_out;
        let before = documents.num_rows();
        let (documents, found) = match &self.contaminants {
            Some(contaminants) => contaminants.apply(documents),
            None => (documents, Found::default()),
        };
        counts.dropped.contaminated = (before - documents.num_rows()) as u64;
        let (documents, empty) = tokenize(documents, self.tokenizer, self.eos)?;
        counts.dropped.empty += empty;
        Ok(Processed { documents, counts, rejected, found })
    }
}
