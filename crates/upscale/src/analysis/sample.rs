//! The calibration texts: windows of prepared editions, half for selecting, half for reporting.

use std::path::PathBuf;

use terrace_data::{Edition, MicroBatch, Sources};

use super::TextReport;

/// Why an analysis cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No range of layers has this length.
    #[error("cannot repeat {length} of {layers} layers: expected a length between 1 and {layers}")]
    Length {
        /// What was asked for.
        length: usize,
        /// The layers that there are.
        layers: usize,
    },
    /// No edition was named.
    #[error("no calibration text: name at least one prepared edition")]
    NoText,
    /// An edition has too few windows to part them.
    #[error(
        "{}: it has {windows} windows, expected at least {expected}, so that the texts for \
         selecting and for reporting are apart", path.display()
    )]
    TooShort {
        /// The edition.
        path: PathBuf,
        /// What it has.
        windows: u64,
        /// What is needed.
        expected: u64,
    },
    /// A token is not in the model's vocabulary.
    #[error(
        "{}: it has the token {token}, and the model's vocabulary has {vocabulary}; prepare the \
         edition with the model's own tokenizer", path.display()
    )]
    Vocabulary {
        /// The edition.
        path: PathBuf,
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocabulary: u64,
    },
    /// An edition cannot be read.
    #[error(transparent)]
    Data(#[from] terrace_data::Error),
}

/// Which half of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What the choice is made on.
    Selection,
    /// What is told about it.
    Report,
}

/// Windows of prepared editions to run a model on.
#[derive(Debug)]
pub struct Calibration {
    names: Vec<String>,
    editions: Sources,
    sequences: u64,
    micro_batch: usize,
}

impl Calibration {
    /// Opens editions by name and takes up to `sequences` windows of each for selecting and as many
    /// for reporting, spread evenly over the edition; `micro_batch` of them run at a time.
    ///
    /// # Errors
    ///
    /// There is none, one cannot be opened or has fewer than two windows, they differ in sequence
    /// length or tokenizer, or a token is not below `vocabulary`.
    ///
    /// # Determinism
    ///
    /// The windows depend on the editions and on `sequences` alone. Two neighbours never fall on
    /// different sides, unless the edition has fewer than `4 * sequences` windows: a document may
    /// continue in the next window.
    pub fn open(
        editions: &[(String, PathBuf)],
        sequences: u64,
        micro_batch: usize,
        vocabulary: u64,
    ) -> Result<Self, Error> {
        if editions.is_empty() {
            return Err(Error::NoText);
        }
        let paths: Vec<&PathBuf> = editions.iter().map(|(_, path)| path).collect();
        let opened = Sources::open(&paths)?;
        let names = editions.iter().map(|(name, _)| name.clone()).collect();
        let calibration =
            Self { names, editions: opened, sequences: sequences.max(1), micro_batch };
        calibration
            .editions
            .iter()
            .try_for_each(|edition| calibration.check(edition, vocabulary))?;
        Ok(calibration)
    }

    /// Targets per sequence.
    pub(super) fn sequence_length(&self) -> usize {
        self.editions.edition(0).sequence_length()
    }

    /// All sequences of both parts.
    pub(super) fn sequences(&self) -> usize {
        self.editions.iter().map(|edition| 2 * self.taken(edition) as usize).sum()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The micro-batches of one part, each with the name of its source.
    pub(super) fn batches(&self, part: Part) -> impl Iterator<Item = (&str, MicroBatch)> {
        self.names.iter().zip(self.editions.iter()).flat_map(move |(name, edition)| {
            let windows = self.windows(edition, part);
            let batches: Vec<MicroBatch> = windows
                .chunks(self.micro_batch.max(1))
                .map(|chunk| {
                    let rows: Vec<_> = chunk.iter().map(|i| (0, edition.window(*i))).collect();
                    MicroBatch::new(&rows, edition.sequence_length())
                })
                .collect();
            batches.into_iter().map(move |batch| (name.as_str(), batch))
        })
    }

    pub(super) fn text_report(&self, name: &str, report_tokens: usize) -> TextReport {
        let place = self.names.iter().position(|n| n == name).expect("a name of ours");
        let taken = self.taken(self.editions.edition(place)) as usize;
        TextReport { selection_sequences: taken, report_sequences: taken, report_tokens }
    }

    fn check(&self, edition: &Edition, vocabulary: u64) -> Result<(), Error> {
        let path = || edition.directory().to_owned();
        if edition.windows() < 2 {
            return Err(Error::TooShort { path: path(), windows: edition.windows(), expected: 2 });
        }
        for part in [Part::Selection, Part::Report] {
            for index in self.windows(edition, part) {
                let tokens = edition.window(index).tokens;
                let mut ids = (0..tokens.len()).map(|offset| tokens.get(offset));
                if let Some(token) = ids.find(|id| u64::from(*id) >= vocabulary) {
                    return Err(Error::Vocabulary { path: path(), token, vocabulary });
                }
            }
        }
        Ok(())
    }

    /// How many windows each part takes of an edition.
    fn taken(&self, edition: &Edition) -> u64 {
        self.sequences.min(edition.windows() / 2)
    }

    fn windows(&self, edition: &Edition, part: Part) -> Vec<u64> {
        spread(edition.windows(), self.taken(edition), part)
    }
}

/// Every other of `2 * taken` places spread evenly over `windows`.
fn spread(windows: u64, taken: u64, part: Part) -> Vec<u64> {
    let place = |i: u64| (u128::from(i) * u128::from(windows) / u128::from(2 * taken)) as u64;
    let offset = match part {
        Part::Selection => 0,
        Part::Report => 1,
    };
    (0..taken).map(|i| place(2 * i + offset)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parts_lie_between_each_other() {
        assert_eq!(spread(16, 2, Part::Selection), [0, 8]);
        assert_eq!(spread(16, 2, Part::Report), [4, 12]);
        assert_eq!(spread(2, 1, Part::Report), [1]);
    }

    proptest! {
        #[test]
        fn no_text_is_on_both_sides(windows in 2u64..10_000, wanted in 1u64..200) {
            let taken = wanted.min(windows / 2);
            let a = spread(windows, taken, Part::Selection);
            let b = spread(windows, taken, Part::Report);
            prop_assert_eq!(a.len(), b.len());
            prop_assert!(b.iter().all(|i| *i < windows));
            let near = |i: u64, j: u64| i.abs_diff(j) <= u64::from(windows >= 4 * wanted);
            prop_assert!(a.iter().all(|i| b.iter().all(|j| i != j && !near(*i, *j))));
        }
    }
}
