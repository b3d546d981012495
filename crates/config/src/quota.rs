//! How many windows of each source a stage takes, in exact integer arithmetic.

use crate::mixture::MixtureWeights;
use crate::segments::StageSegment;

/// What a stage's weights mean for a whole stage of `sequences` sequences.
///
/// A source's quota is `sequences (start + end) / (2 total)`: under linearly changing weights its
/// share of the stage is the mean of the two ends. The sampler draws the quota rounded up or down.
///
/// # Source
///
/// Data notes §2.4: `A_s(k) 2KW = 2K w0 k + (w1 - w0) k^2`, at `k = K`.
impl MixtureWeights {
    /// The most windows of source `index` that a stage of these weights alone can draw.
    #[cfg(test)]
    pub(crate) fn windows_at_most(&self, index: usize, sequences: u64) -> u64 {
        let windows =
            (u128::from(sequences) * self.double_share(index)).div_ceil(2 * u128::from(self.total));
        u64::try_from(windows).expect("a quota is at most the number of sequences")
    }

    /// The most sequences a stage can have if it may draw `windows` windows of source `index`;
    /// `None` where the source is not in the mixture.
    pub(crate) fn sequences_at_most(&self, index: usize, windows: u64) -> Option<u64> {
        let sequences = (u128::from(windows) * 2 * u128::from(self.total))
            .checked_div(self.double_share(index))?;
        Some(u64::try_from(sequences).unwrap_or(u64::MAX))
    }

    fn double_share(&self, index: usize) -> u128 {
        u128::from(self.start[index]) + u128::from(self.end[index])
    }
}

/// What a segment takes from each source, as fractions of one divisor.
struct Quotas {
    numerators: Vec<u128>,
    divisor: u128,
}

impl StageSegment {
    /// The most windows of source `index` that the segment can draw.
    pub(crate) fn windows_at_most(&self, index: usize) -> u64 {
        let Quotas { numerators, divisor } = self.quotas();
        u64::try_from(numerators[index].div_ceil(divisor)).expect("quotas are below 2^64")
    }

    /// The windows of each source, rounded by largest remainder so that they sum to `sequences`.
    ///
    /// Each is the quota rounded up or down; the sampler may settle ties another way.
    pub(crate) fn apportion(&self) -> Vec<u64> {
        let Quotas { numerators, divisor } = self.quotas();
        let whole = |exact: &u128| u64::try_from(exact / divisor).expect("quotas are below 2^64");
        let mut windows: Vec<u64> = numerators.iter().map(whole).collect();
        let left = self.sequences - windows.iter().sum::<u64>();
        let mut by_remainder: Vec<usize> = (0..windows.len()).collect();
        by_remainder.sort_by_key(|index| std::cmp::Reverse(numerators[*index] % divisor));
        for index in by_remainder.into_iter().take(usize::try_from(left).expect("one per source")) {
            windows[index] += 1;
        }
        windows
    }

    /// A ramp of `K` sequences that is cut after `k` has `k (2 K w0 + (w1 - w0) k) / (2 K W)`.
    fn quotas(&self) -> Quotas {
        let weights = &self.weights;
        let sequences = u128::from(self.sequences);
        let (cut, ramp) = if self.sequences == self.ramp_sequences || weights.is_constant() {
            (1, 1)
        } else {
            narrowed(self.sequences, self.ramp_sequences)
        };
        let numerator = |(start, end): (&u64, &u64)| {
            let (start, end) = (u128::from(*start), u128::from(*end));
            sequences * (2 * ramp * start + cut * end - cut * start)
        };
        Quotas {
            numerators: weights.start.iter().zip(&weights.end).map(numerator).collect(),
            divisor: 2 * ramp * u128::from(weights.total),
        }
    }
}

/// The fraction `cut / ramp` in numbers small enough to be multiplied with 2^105; exact for ramps
/// of up to four million sequences.
fn narrowed(cut: u64, ramp: u64) -> (u128, u128) {
    let shift = (u64::BITS - ramp.leading_zeros()).saturating_sub(22);
    (u128::from(cut >> shift), u128::from((ramp >> shift).max(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decimal::Decimal;
    use crate::mixture::Mixture;
    use crate::mixture::tests::stage;
    use crate::run::Stage;

    #[test]
    fn a_ramp_takes_the_mean_of_its_ends() {
        let ramp = stage(&[("a", "1"), ("b", "0")], Some(&[("a", "0.5"), ("b", "0.5")]));
        let weights = MixtureWeights::of(&ramp).unwrap();
        assert_eq!(segment(&weights, 100, 100).apportion(), [75, 25]);
        // Cut half-way, its mean is that of the first half.
        assert_eq!(segment(&weights, 50, 100).apportion(), [44, 6]);
        assert_eq!(segment(&weights, 50, 100).windows_at_most(1), 7);
        assert_eq!(weights.windows_at_most(0, 100), 75);
        assert_eq!(weights.sequences_at_most(1, 25), Some(100));
    }

    #[test]
    fn a_source_outside_the_mixture_sets_no_limit() {
        let weights = MixtureWeights::of(&stage(&[("a", "1"), ("b", "0")], None)).unwrap();
        assert_eq!(weights.windows_at_most(1, 100), 0);
        assert_eq!(weights.sequences_at_most(1, 0), None);
    }

    fn segment(weights: &MixtureWeights, sequences: u64, ramp_sequences: u64) -> StageSegment {
        StageSegment { begins_at: 0, sequences, ramp_sequences, weights: weights.clone() }
    }

    fn weights() -> impl Strategy<Value = MixtureWeights> {
        let parts = || {
            proptest::collection::vec(0u64..1000, 3)
                .prop_filter("all zero", |parts| parts.iter().any(|part| *part > 0))
        };
        (parts(), parts()).prop_map(|(start, end)| {
            let mixture = |parts: Vec<u64>| -> Mixture {
                let named = |(i, part)| (format!("s{i}"), Decimal::new(part, 0));
                parts.into_iter().enumerate().map(named).collect()
            };
            let stage = Stage {
                mixture: mixture(start),
                mixture_end: Some(mixture(end)),
                ..stage(&[], None)
            };
            MixtureWeights::of(&stage).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_largest_stage_is_the_largest(weights in weights(), windows in 0u64..1 << 40) {
            for index in 0..3 {
                if let Some(sequences) = weights.sequences_at_most(index, windows) {
                    prop_assert!(weights.windows_at_most(index, sequences) <= windows);
                    prop_assert!(weights.windows_at_most(index, sequences + 1) > windows);
                }
            }
        }

        #[test]
        fn apportioned_windows_sum_up(
            weights in weights(),
            sequences in 0u64..1 << 40,
            longer in 0u64..1 << 41,
        ) {
            let whole = segment(&weights, sequences, sequences);
            let cut = segment(&weights, sequences, sequences + longer);
            for segment in [&whole, &cut] {
                let windows = segment.apportion();
                prop_assert_eq!(windows.iter().sum::<u64>(), sequences);
                for (index, count) in windows.iter().enumerate() {
                    let most = segment.windows_at_most(index);
                    prop_assert!(*count <= most && *count + 1 >= most);
                }
            }
            for index in 0..3 {
                prop_assert_eq!(
                    whole.windows_at_most(index),
                    weights.windows_at_most(index, sequences)
                );
            }
        }
    }
}
