use terrace_base::{Fingerprint, FingerprintHasher};

use crate::{TokenSlice, Window};

/// The target of a position that has none.
pub const NO_TARGET: i32 = -1;

/// The rows of one forward–backward, laid out as the model reads them.
///
/// # Shapes
///
/// `tokens`, `targets`, `positions` and `segments` are `[b * t]` row by row; `sources` and
/// `target_tokens` are `[b]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// Token ids; padding has the id 0.
    pub tokens: Vec<i32>,
    /// The id after each position, or [`NO_TARGET`] where that is padding or another document.
    pub targets: Vec<i32>,
    /// Position within the document, from 0 at each document and at the beginning of the row.
    pub positions: Vec<i32>,
    /// Number of the document within the row, from 0; padding is a segment of its own. Positions
    /// attend to their own segment only.
    pub segments: Vec<i32>,
    /// Which source each row is from.
    pub sources: Vec<usize>,
    /// How many targets each row has.
    pub target_tokens: Vec<u32>,
    /// Bytes of text that the targets of each row stand for.
    pub target_bytes: Vec<u32>,
    /// Rows.
    pub rows: usize,
    /// Positions per row.
    pub sequence_length: usize,
}

impl MicroBatch {
    /// Lays out windows, each with the source it is from.
    #[must_use]
    pub fn new(windows: &[(usize, Window<'_>)], sequence_length: usize) -> Self {
        let mut batch = Self {
            rows: windows.len(),
            sequence_length,
            ..Self::with_capacity(windows.len() * sequence_length)
        };
        for (source, window) in windows {
            assert_eq!(window.tokens.len(), sequence_length + 1, "tokens in a window");
            batch.push_row(window);
            batch.sources.push(*source);
            batch.target_tokens.push(window.target_tokens);
            batch.target_bytes.push(window.target_bytes);
        }
        batch
    }

    /// Targets in all rows: what the summed loss is divided by, over a step.
    #[must_use]
    pub fn total_target_tokens(&self) -> u64 {
        self.target_tokens.iter().map(|&count| u64::from(count)).sum()
    }

    fn with_capacity(positions: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(positions),
            targets: Vec::with_capacity(positions),
            positions: Vec::with_capacity(positions),
            segments: Vec::with_capacity(positions),
            ..Self::default()
        }
    }

    fn push_row(&mut self, window: &Window<'_>) {
        let t = self.sequence_length;
        let length = window.length as usize;
        let (begin, end) = (self.tokens.len(), self.tokens.len() + t);
        // Asked once which width the ids have, so that the loops over them are straight.
        match window.tokens {
            TokenSlice::U16(ids) => self.push_ids(ids, length, |id| i32::from(*id)),
            TokenSlice::U32(ids) => {
                self.push_ids(ids, length, |id| i32::try_from(*id).expect("a small id"));
            }
        }
        let row = &mut self.targets[begin..end];
        for &start in window.document_starts.iter().filter(|&&start| start > 0) {
            row[start as usize - 1] = NO_TARGET;
        }

        let padding = (length < t).then_some(length);
        let starts = window.document_starts.iter().map(|&start| start as usize).filter(|&s| s < t);
        let starts: Vec<usize> = starts.chain(padding).collect();
        let ends = starts.iter().skip(1).copied().chain([t]);
        for (segment, (&start, end)) in (0i32..).zip(starts.iter().zip(ends)) {
            self.positions.extend((0i32..).take(end - start));
            self.segments.extend(std::iter::repeat_n(segment, end - start));
        }
    }

    /// Adds a row's ids, and behind each the next one as its target where that is real.
    fn push_ids<T>(&mut self, ids: &[T], length: usize, id: impl Fn(&T) -> i32) {
        let t = self.sequence_length;
        self.tokens.extend(ids[..t].iter().map(&id));
        let real = length.clamp(1, t + 1);
        self.targets.extend(ids[1..real].iter().map(&id));
        self.targets.extend(std::iter::repeat_n(NO_TARGET, t + 1 - real));
    }
}

/// The hash of the token ids and targets of a step's rows, in order.
///
/// # Determinism
///
/// It does not depend on how the rows are divided into micro-batches.
#[must_use]
pub fn step_digest<'a>(batches: impl IntoIterator<Item = &'a MicroBatch>) -> Fingerprint {
    let mut hasher = FingerprintHasher::new();
    let mut bytes = Vec::new();
    for batch in batches {
        let rows = batch.tokens.chunks(batch.sequence_length);
        for (tokens, targets) in rows.zip(batch.targets.chunks(batch.sequence_length)) {
            little_endian(tokens, &mut bytes);
            hasher.update(&bytes);
            little_endian(targets, &mut bytes);
            hasher.update(&bytes);
        }
    }
    hasher.finish()
}

/// Ids as bytes, into memory that is used again.
fn little_endian(ids: &[i32], bytes: &mut Vec<u8>) {
    bytes.resize(4 * ids.len(), 0);
    for (place, id) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(ids) {
        *place = id.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window<'a>(tokens: &'a [u16], document_starts: &'a [u32], length: u32) -> Window<'a> {
        let target_tokens = length - document_starts.len() as u32;
        let tokens = TokenSlice::U16(tokens);
        Window { tokens, document_starts, length, target_tokens, target_bytes: 0 }
    }

    #[test]
    fn a_row_is_laid_out() {
        let full = window(&[10, 11, 12, 13, 14, 15, 16], &[0, 3, 6], 7);
        let padded = window(&[20, 21, 22, 23, 0, 0, 0], &[0, 2], 4);
        let batch = MicroBatch::new(&[(0, full), (2, padded)], 6);
        assert_eq!(batch.tokens, [10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 0, 0]);
        assert_eq!(batch.targets, [11, 12, -1, 14, 15, -1, 21, -1, 23, -1, -1, -1]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 0, 1]);
        assert_eq!(batch.segments, [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 2, 2]);
        assert_eq!((batch.sources.as_slice(), batch.rows), (&[0, 2][..], 2));
        assert_eq!(batch.target_tokens, [4, 2]);
        assert_eq!(batch.total_target_tokens(), 6);
    }

    #[test]
    fn the_digest_sees_order_and_targets_not_micro_batches() {
        let tokens: Vec<u16> = (0..10).collect();
        let rows: Vec<_> = (0..4).map(|i| (0, window(&tokens[i..i + 5], &[0], 5))).collect();
        let whole = MicroBatch::new(&rows, 4);
        let halves = [MicroBatch::new(&rows[..1], 4), MicroBatch::new(&rows[1..], 4)];
        assert_eq!(step_digest([&whole]), step_digest(&halves));
        assert_ne!(step_digest([&whole]), step_digest(halves.iter().rev()));
        let masked: Vec<_> = (0..4).map(|i| (0, window(&tokens[i..i + 5], &[0, 2], 5))).collect();
        assert_ne!(step_digest([&whole]), step_digest([&MicroBatch::new(&masked, 4)]));
    }

    proptest! {
        #[test]
        fn masks_agree_with_the_definition(
            t in 1usize..20,
            cuts in prop::collection::btree_set(1u32..20, 0..6),
            length in 1u32..21,
        ) {
            let length = length.min(t as u32 + 1);
            let starts: Vec<u32> =
                [0].into_iter().chain(cuts.into_iter().filter(|&cut| cut < length)).collect();
            let tokens: Vec<u16> = (0..=t as u16).map(|i| 100 + i).collect();
            let window = window(&tokens, &starts, length);
            let batch = MicroBatch::new(&[(0, window)], t);
            let document = |offset: usize| match offset < length as usize {
                true => starts.iter().filter(|&&start| start as usize <= offset).count() - 1,
                false => starts.len(),
            };
            for i in 0..t {
                let begin = (0..=i).rev().take_while(|&j| document(j) == document(i)).count() - 1;
                prop_assert_eq!(batch.positions[i] as usize, begin);
                let segment = batch.segments[i] as usize;
                // A start in the last slot of the window is no position of the row.
                let shown = document(i).min(starts.iter().filter(|&&s| (s as usize) < t).count());
                prop_assert_eq!(segment, shown);
                let targeted = i + 1 < length as usize && document(i) == document(i + 1);
                let expected = if targeted { i32::from(tokens[i + 1]) } else { NO_TARGET };
                prop_assert_eq!(batch.targets[i], expected);
            }
            let count = batch.targets.iter().filter(|&&target| target != NO_TARGET).count();
            prop_assert_eq!(batch.target_tokens[0] as usize, count);
        }
    }
}
