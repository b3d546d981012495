//! The texts that two models are compared on.

use std::path::{Path, PathBuf};

use terrace_data::{Edition, MicroBatch};
use terrace_tokenizer::Tokenizer;

use crate::Error;

/// The longest sequence that a file is cut into.
const LONGEST: usize = 512;

/// Sequences of an edition or of a file.
#[derive(Clone, Debug)]
pub struct Text {
    name: String,
    path: PathBuf,
    held_out: bool,
    /// One sequence each.
    batches: Vec<MicroBatch>,
}

impl Text {
    /// Takes up to `sequences` sequences, spread evenly: of an edition's held-out part (of the
    /// edition itself where nothing was held out), or of a file of UTF-8 text, encoded by
    /// `tokenizer` and cut into sequences of at most `positions` tokens.
    ///
    /// # Errors
    ///
    /// It cannot be read, is not UTF-8, or has no token with one before it.
    pub fn open(
        name: &str,
        path: &Path,
        tokenizer: &Path,
        sequences: usize,
        positions: usize,
    ) -> Result<Self, Error> {
        let sequences = sequences.max(1);
        let (held_out, batches) = if path.is_dir() {
            of_edition(path, sequences)?
        } else {
            let text = std::fs::read_to_string(path)
                .map_err(|source| Error::Read { path: path.to_owned(), source })?;
            let tokens = Tokenizer::load(tokenizer)?.encode(&text)?;
            (false, of_tokens(&tokens, sequences, positions.clamp(1, LONGEST)))
        };
        if batches.iter().all(|batch| batch.total_target_tokens() == 0) {
            return Err(Error::Empty { path: path.to_owned() });
        }
        Ok(Self { name: name.to_owned(), path: path.to_owned(), held_out, batches })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was held out of an edition.
    #[must_use]
    pub fn is_held_out(&self) -> bool {
        self.held_out
    }

    /// How many sequences it has.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn batches(&self) -> &[MicroBatch] {
        &self.batches
    }

    /// Refuses a token that is not in the vocabulary.
    pub(super) fn check(&self, vocabulary: u64) -> Result<(), Error> {
        let ids = self.batches.iter().flat_map(|batch| batch.tokens.iter().chain(&batch.targets));
        match ids.max() {
            Some(id) if u64::try_from(*id).is_ok_and(|id| id >= vocabulary) => {
                let (path, token) = (self.path.clone(), id.cast_unsigned());
                Err(Error::Vocabulary { path, token, vocabulary })
            }
            _ => Ok(()),
        }
    }
}

fn of_edition(path: &Path, sequences: usize) -> Result<(bool, Vec<MicroBatch>), Error> {
    let whole = Edition::open(path)?;
    let part = whole.open_held_out()?.filter(|edition| edition.windows() > 0);
    let held_out = part.is_some();
    let edition = part.unwrap_or(whole);
    let batch = |index: usize| {
        MicroBatch::new(&[(0, edition.window(index as u64))], edition.sequence_length())
    };
    Ok((held_out, spread(edition.windows() as usize, sequences).map(batch).collect()))
}

fn of_tokens(tokens: &[u32], sequences: usize, positions: usize) -> Vec<MicroBatch> {
    let whole = tokens.len().saturating_sub(1).div_ceil(positions);
    let batch = |index: usize| {
        let first = index * positions;
        let end = (first + positions + 1).min(tokens.len());
        of_sequence(&tokens[first..end])
    };
    spread(whole, sequences).map(batch).collect()
}

/// A sequence of one document, each token but the last followed by its target.
fn of_sequence(tokens: &[u32]) -> MicroBatch {
    let ids: Vec<i32> = tokens.iter().map(|id| id.cast_signed()).collect();
    let t = ids.len() - 1;
    MicroBatch {
        tokens: ids[..t].to_vec(),
        targets: ids[1..].to_vec(),
        positions: (0..t as i32).collect(),
        segments: vec![0; t],
        sources: vec![0],
        target_tokens: vec![t as u32],
        target_bytes: vec![0],
        rows: 1,
        sequence_length: t,
    }
}

/// At most `wanted` places spread evenly over `count`.
fn spread(count: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let taken = wanted.min(count);
    (0..taken).map(move |index| (index as u128 * count as u128 / taken as u128) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_so_that_every_token_but_the_first_is_predicted_once() {
        let tokens: Vec<u32> = (100..111).collect();
        let batches = of_tokens(&tokens, 9, 4);
        let targets: Vec<i32> = batches.iter().flat_map(|batch| batch.targets.clone()).collect();
        assert_eq!(targets, (101..111).collect::<Vec<i32>>());
        assert_eq!(batches[2].tokens, [108, 109]);
        assert_eq!(of_tokens(&tokens, 2, 4)[1].tokens, [104, 105, 106, 107]);
        assert!(of_tokens(&tokens[..1], 2, 4).is_empty());
        assert!(of_tokens(&[], 2, 4).is_empty());
    }
}
