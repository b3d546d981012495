//! Mixture weights: written as decimals, used as integers.

use std::collections::BTreeMap;

use crate::decimal::Decimal;
use crate::run::Stage;

/// The weight of each source, by name.
pub type Mixture = BTreeMap<String, Decimal>;

/// The largest common denominator that the sampler's 128-bit arithmetic can carry.
const TOTAL_LIMIT: u128 = 1 << 40;

/// A stage's weights as integers over one common total, exact.
///
/// At a stage's beginning source `i` has the share `start[i] / total`, at its end
/// `end[i] / total`, and linear in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixtureWeights {
    /// The sources, in alphabetical order.
    pub sources: Vec<String>,
    /// The parts of each source at the beginning.
    pub start: Vec<u64>,
    /// The parts of each source at the end.
    pub end: Vec<u64>,
    /// The sum of `start`, and of `end`.
    pub total: u64,
}

/// Why weights cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// No source has a weight above zero.
    #[error("all weights are zero, expected at least one above zero")]
    AllZero,
    /// Brought to a common denominator, the weights are larger than the sampler can carry.
    #[error(
        "the weights have a common denominator of {0}, expected at most 2^40: write fewer digits"
    )]
    TooPrecise(u128),
}

impl MixtureWeights {
    /// Brings the weights that a stage begins with to a common denominator.
    ///
    /// # Errors
    ///
    /// The weights of the beginning or of the end are all zero, or too precise.
    pub fn of(stage: &Stage) -> Result<Self, WeightsError> {
        Self::between(&stage.mixture, stage.mixture_end.as_ref())
    }

    /// Brings weights, and those that they change to, to a common denominator.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn between(mixture: &Mixture, end: Option<&Mixture>) -> Result<Self, WeightsError> {
        let end_mixture = end.unwrap_or(mixture);
        let sources: Vec<String> = mixture
            .keys()
            .chain(end_mixture.keys())
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let start = integer_parts(&sources, mixture)?;
        let end = integer_parts(&sources, end_mixture)?;
        let (start_total, end_total): (u128, u128) = (start.iter().sum(), end.iter().sum());
        let total = start_total / gcd(start_total, end_total) * end_total;
        if total > TOTAL_LIMIT {
            return Err(WeightsError::TooPrecise(total));
        }
        let scale = |parts: Vec<u128>, sum: u128| {
            let part = |part| u64::try_from(part * (total / sum)).expect("parts are below 2^40");
            parts.into_iter().map(part).collect()
        };
        Ok(Self {
            sources,
            start: scale(start, start_total),
            end: scale(end, end_total),
            total: u64::try_from(total).expect("the total is at most 2^40"),
        })
    }

    /// Whether the weights stay the same through the stage.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.start == self.end
    }

    /// The share of source `index` at the beginning, for display.
    #[must_use]
    pub fn start_share(&self, index: usize) -> f64 {
        self.start[index] as f64 / self.total as f64
    }

    /// The share of source `index` at the end, for display.
    #[must_use]
    pub fn end_share(&self, index: usize) -> f64 {
        self.end[index] as f64 / self.total as f64
    }
}

fn integer_parts(sources: &[String], mixture: &Mixture) -> Result<Vec<u128>, WeightsError> {
    let scale = mixture.values().map(|weight| weight.scale()).max().unwrap_or(0);
    let part = |source: &String| {
        let weight = mixture.get(source).copied().unwrap_or_default();
        u128::from(weight.digits()) * 10u128.pow(u32::from(scale - weight.scale()))
    };
    let parts: Vec<u128> = sources.iter().map(part).collect();
    let divisor = parts.iter().copied().fold(0, gcd);
    if divisor == 0 {
        return Err(WeightsError::AllZero);
    }
    let parts: Vec<u128> = parts.into_iter().map(|part| part / divisor).collect();
    let total: u128 = parts.iter().sum();
    // Checked for each end alone too, so that their common multiple cannot overflow.
    if total > TOTAL_LIMIT { Err(WeightsError::TooPrecise(total)) } else { Ok(parts) }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use terrace_base::Tokens;

    use super::*;
    use crate::batch::StageBatch;

    pub(crate) fn stage(start: &[(&str, &str)], end: Option<&[(&str, &str)]>) -> Stage {
        let mixture = |pairs: &[(&str, &str)]| -> Mixture {
            pairs.iter().map(|(name, w)| ((*name).to_owned(), w.parse().unwrap())).collect()
        };
        Stage {
            name: "one".to_owned(),
            budget_tokens: Tokens(1000),
            learning_rate: None,
            batch: StageBatch::Carry,
            mixture: mixture(start),
            mixture_end: end.map(mixture),
            decay: None,
            mixture_changes: Vec::new(),
        }
    }

    #[test]
    fn decimals_become_small_integers() {
        let weights =
            MixtureWeights::of(&stage(&[("en", "0.5"), ("code", "0.3"), ("math", "0.20")], None))
                .unwrap();
        assert_eq!(weights.sources, ["code", "en", "math"]);
        assert_eq!((weights.start.as_slice(), weights.total), ([3, 5, 2].as_slice(), 10));
        assert!(weights.is_constant());
    }

    #[test]
    fn both_ends_share_a_total() {
        let weights =
            MixtureWeights::of(&stage(&[("a", "1"), ("b", "1")], Some(&[("b", "2"), ("c", "1")])))
                .unwrap();
        assert_eq!(weights.sources, ["a", "b", "c"]);
        assert_eq!(weights.total, 6);
        assert_eq!(weights.start, [3, 3, 0]);
        assert_eq!(weights.end, [0, 4, 2]);
    }

    #[test]
    fn bad_weights_are_refused() {
        let all_zero = stage(&[("a", "0"), ("b", "0.0")], None);
        assert_eq!(MixtureWeights::of(&all_zero), Err(WeightsError::AllZero));
        let too_precise = stage(&[("a", "1"), ("b", "0.0000000000001")], None);
        assert!(matches!(MixtureWeights::of(&too_precise), Err(WeightsError::TooPrecise(_))));
    }

    proptest! {
        #[test]
        fn shares_are_exact(digits in proptest::collection::vec((0u64..10_000, 0u8..5), 1..6)) {
            let names: Vec<String> = (0..digits.len()).map(|i| format!("s{i}")).collect();
            let mut stage = stage(&[], None);
            stage.mixture = names
                .iter()
                .zip(&digits)
                .map(|(name, (d, s))| (name.clone(), Decimal::new(*d, *s)))
                .collect();
            match MixtureWeights::of(&stage) {
                Err(error) => {
                    prop_assert_eq!(error, WeightsError::AllZero);
                    prop_assert!(digits.iter().all(|(d, _)| *d == 0));
                }
                Ok(weights) => {
                    prop_assert_eq!(weights.start.iter().sum::<u64>(), weights.total);
                    let scaled: Vec<u128> = digits
                        .iter()
                        .map(|(d, s)| u128::from(*d) * 10u128.pow(4 - u32::from(*s)))
                        .collect();
                    let sum: u128 = scaled.iter().sum();
                    for (part, scaled) in weights.start.iter().zip(scaled) {
                        prop_assert_eq!(u128::from(*part) * sum, scaled * u128::from(weights.total));
                    }
                }
            }
        }
    }
}
