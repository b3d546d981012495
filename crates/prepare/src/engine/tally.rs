//! What the reading threads have in common.

use std::collections::BTreeSet;

use terrace_data::{BadRow, Counts};

use crate::chain::{Found, Processed, Rejected};
use crate::input::InputFile;

/// Bad rows that a manifest lists; all are counted.
const LISTED: usize = 100;

/// Sums over batches, in whatever order they come.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// What was found of the items of tasks.
    pub(super) found: Found,
    /// The first bad rows by file and row.
    first: BTreeSet<Rejected>,
}

impl Tally {
    pub(super) fn add(&mut self, processed: &Processed) {
        let (sum, more) = (&mut self.counts, &processed.counts);
        sum.read += more.read;
        sum.dropped.empty += more.dropped.empty;
        sum.dropped.too_short += more.dropped.too_short;
        sum.dropped.too_long += more.dropped.too_long;
        sum.dropped.in_held_out += more.dropped.in_held_out;
        sum.dropped.contaminated += more.dropped.contaminated;
        sum.bad.invalid_utf8 += more.bad.invalid_utf8;
        sum.bad.null += more.bad.null;
        sum.bad.oversized += more.bad.oversized;
        sum.bad.malformed += more.bad.malformed;
        self.found.merge(&processed.found);
        for row in &processed.rejected {
            self.first.insert(row.clone());
            if self.first.len() > LISTED {
                self.first.pop_last();
            }
        }
    }

    /// The first bad rows, with the names of their files.
    pub(super) fn bad_rows(&self, files: &[InputFile]) -> Vec<BadRow> {
        let named = |row: &Rejected| BadRow {
            file: files[row.file as usize].name.clone(),
            row: row.row,
            id: row.id.clone(),
            kind: row.kind,
        };
        self.first.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use terrace_data::{BadRowKind, TokenType};

    use super::*;
    use crate::chain::columns::tokenized_schema;

    #[test]
    fn the_first_rows_stay_whatever_the_order() {
        let mut tally = Tally::default();
        for row in (0..300).rev() {
            tally.add(&Processed {
                documents: RecordBatch::new_empty(tokenized_schema(TokenType::U16)),
                counts: Counts { read: 1, ..Counts::default() },
                rejected: vec![Rejected { file: 0, row, id: None, kind: BadRowKind::Null }],
                found: Found::default(),
            });
        }
        assert_eq!(tally.counts.read, 300);
        assert_eq!(tally.first.len(), LISTED);
        assert_eq!(tally.first.last().unwrap().row, 99);
    }
}
