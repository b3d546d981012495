use std::collections::BTreeMap;
use std::ops::Range;

use super::{PackedWindow, offset};

/// Tokens that are collected before they are packed, unless 256 windows hold more.
const BLOCK_TOKENS: usize = 1 << 22;

/// Whole documents where they fit, each into the window with the least room left for it.
///
/// A document longer than a window is cut into pieces that share one token: the last of a piece
/// is the first of the next, so that every token but the document's first is a target once.
///
/// # Source
///
/// Best-fit decreasing as in Ding et al. 2024 (arXiv 2404.10830). They sort a whole corpus; here
/// it is done for one block of the shuffled stream at a time (4Mi tokens, or 256 windows if that
/// is more), so that memory is bounded. Their pieces of a long document share no token.
#[derive(Debug)]
pub struct BestFit {
    capacity: usize,
    block_tokens: usize,
    tokens: Vec<u32>,
    pieces: Vec<Range<usize>>,
    skipped: u64,
}

impl BestFit {
    /// Starts with nothing to pack.
    #[must_use]
    pub fn new(sequence_length: usize) -> Self {
        let capacity = sequence_length + 1;
        Self::with_block(sequence_length, BLOCK_TOKENS.max(256 * capacity))
    }

    pub(super) fn with_block(sequence_length: usize, block_tokens: usize) -> Self {
        assert!(sequence_length > 0, "a window has at least one target");
        Self {
            capacity: sequence_length + 1,
            block_tokens,
            tokens: Vec::new(),
            pieces: Vec::new(),
            skipped: 0,
        }
    }

    pub(super) fn push<E>(
        &mut self,
        document: &[u32],
        emit: &mut impl FnMut(PackedWindow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = document;
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(self.capacity)];
            let begin = self.tokens.len();
            self.tokens.extend_from_slice(piece);
            self.pieces.push(begin..self.tokens.len());
            // A remainder of one token would be the shared token alone.
            rest = if rest.len() > self.capacity { &rest[self.capacity - 1..] } else { &[] };
            if self.tokens.len() >= self.block_tokens {
                self.pack_block(emit)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish<E>(
        mut self,
        emit: &mut impl FnMut(PackedWindow) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.pack_block(emit)?;
        Ok(self.skipped)
    }

    fn pack_block<E>(
        &mut self,
        emit: &mut impl FnMut(PackedWindow) -> Result<(), E>,
    ) -> Result<(), E> {
        let lengths: Vec<usize> = self.pieces.iter().map(ExactSizeIterator::len).collect();
        for bin in best_fit_decreasing(&lengths, self.capacity) {
            let mut tokens = Vec::with_capacity(self.capacity);
            let mut starts = Vec::with_capacity(bin.len());
            for piece in bin {
                starts.push(offset(tokens.len()));
                tokens.extend_from_slice(&self.tokens[self.pieces[piece].clone()]);
            }
            match PackedWindow::close(tokens, starts, self.capacity) {
                Some(window) => emit(window)?,
                None => self.skipped += 1,
            }
        }
        self.tokens.clear();
        self.pieces.clear();
        Ok(())
    }
}

/// Which pieces share a bin: longest first, each into the fullest bin that still holds it, among
/// equals the one opened last.
fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&piece| std::cmp::Reverse(lengths[piece]));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    let mut bins_by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for piece in order {
        let length = lengths[piece];
        let fitting =
            bins_by_room.range_mut(length..).next().map(|(&room, bins)| (room, bins.pop()));
        let (room, bin) = match fitting {
            Some((room, Some(bin))) => {
                if bins_by_room[&room].is_empty() {
                    bins_by_room.remove(&room);
                }
                (room, bin)
            }
            _ => {
                bins.push(Vec::new());
                (capacity, bins.len() - 1)
            }
        };
        bins[bin].push(piece);
        if room > length {
            bins_by_room.entry(room - length).or_default().push(bin);
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_bin_that_fits_is_chosen() {
        // 7 opens bin 0 (room 3), 6 opens bin 1 (room 4), 3 goes where exactly 3 is left.
        assert_eq!(best_fit_decreasing(&[3, 6, 7], 10), [vec![2, 0], vec![1]]);
        assert_eq!(best_fit_decreasing(&[5, 5, 5], 10), [vec![0, 1], vec![2]]);
        assert!(best_fit_decreasing(&[], 10).is_empty());
    }

    #[test]
    fn a_block_bounds_what_is_collected() {
        let mut packer = BestFit::with_block(4, 16);
        let mut windows = 0;
        for _ in 0..100 {
            packer
                .push(&[1, 2, 3], &mut |_| {
                    windows += 1;
                    Ok::<(), ()>(())
                })
                .unwrap();
            assert!(packer.tokens.len() < 16);
        }
        assert!(windows > 90);
    }
}
