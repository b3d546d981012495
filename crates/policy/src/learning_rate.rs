//! The learning rate: a warm-up, then constant.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

/// Why a learning rate makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the peak learning rate is {found}, expected a finite number above 0")]
pub struct LearningRateError {
    /// The peak given.
    pub found: f64,
}

/// A learning rate that rises linearly over the first tokens of a run and is constant afterwards.
///
/// # Determinism
///
/// A pure function of tokens: a resumed run has the rate of one that never stopped, whatever its
/// batch sizes were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningRate {
    peak: f64,
    warmup_tokens: Tokens,
}

impl LearningRate {
    /// A rate that reaches `peak` after `warmup_tokens`, at once if they are zero.
    ///
    /// # Errors
    ///
    /// The peak is not a finite number above zero.
    pub fn new(peak: f64, warmup_tokens: Tokens) -> Result<Self, LearningRateError> {
        if !(peak.is_finite() && peak > 0.0) {
            return Err(LearningRateError { found: peak });
        }
        Ok(Self { peak, warmup_tokens })
    }

    /// The same warm-up to another peak, for a stage that sets its own.
    ///
    /// The warm-up belongs to the run, not to the stage: a stage that begins behind it begins at
    /// its peak.
    ///
    /// # Errors
    ///
    /// The peak is not a finite number above zero.
    pub fn with_peak(self, peak: f64) -> Result<Self, LearningRateError> {
        Self::new(peak, self.warmup_tokens)
    }

    /// The rate of the step that begins after `tokens_seen` and takes `batch` more.
    ///
    /// The tokens of the step count, so that the first step is not lost to a rate of zero and the
    /// step that ends the warm-up has the peak.
    #[must_use]
    pub fn at(self, tokens_seen: Tokens, batch: Tokens) -> f64 {
        let reached = tokens_seen + batch;
        if reached >= self.warmup_tokens {
            return self.peak;
        }
        self.peak * (reached.0 as f64 / self.warmup_tokens.0 as f64)
    }

    /// The rate after the warm-up.
    #[must_use]
    pub fn peak(self) -> f64 {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_rises_and_stays() {
        let rate = LearningRate::new(3e-5, Tokens(100)).unwrap();
        let at = |seen: u64| rate.at(Tokens(seen), Tokens(10));
        assert!((at(0) - 3e-6).abs() < 1e-18);
        assert!((at(40) - 1.5e-5).abs() < 1e-18);
        assert_eq!([at(90), at(91), at(1_000_000)], [3e-5; 3]);
        assert_eq!(rate.with_peak(1e-4).unwrap().at(Tokens(500), Tokens(1)), 1e-4);
    }

    #[test]
    fn without_a_warm_up_it_is_constant() {
        let rate = LearningRate::new(1e-3, Tokens(0)).unwrap();
        assert_eq!(rate.at(Tokens(0), Tokens(8)), 1e-3);
    }

    #[test]
    fn peaks_that_make_no_sense_are_refused() {
        for peak in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(LearningRate::new(peak, Tokens(0)).is_err());
        }
    }

    proptest! {
        #[test]
        fn it_never_falls_and_never_is_zero(warmup in 0u64..1000, batches in prop::collection::vec(1u64..100, 1..50)) {
            let rate = LearningRate::new(1.0, Tokens(warmup)).unwrap();
            let (mut seen, mut last) = (0, 0.0);
            for batch in batches {
                let now = rate.at(Tokens(seen), Tokens(batch));
                seen += batch;
                prop_assert!(now > 0.0 && now <= 1.0);
                prop_assert!(now >= last);
                last = now;
            }
        }
    }
}
