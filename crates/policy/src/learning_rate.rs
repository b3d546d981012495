//! The learning rate: a warm-up, then constant, and where a stage asks for it a decay at its end.

mod decay;

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

pub use decay::{Decay, DecayShape};

/// Why a learning rate makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LearningRateError {
    /// The peak is no rate.
    #[error("the peak learning rate is {found}, expected a finite number above 0")]
    Peak {
        /// The peak given.
        found: f64,
    },
    /// The share of a stage that the decay takes is no share.
    #[error("the decay takes a share of {found} of the stage, expected above 0 and at most 1")]
    DecayShare {
        /// The share given.
        found: f64,
    },
    /// The rate would not fall, or fall below zero.
    #[error("the decay ends at {found} of the peak, expected at least 0 and below 1")]
    FinalFraction {
        /// The fraction given.
        found: f64,
    },
}

/// A learning rate that rises linearly over the first tokens of a run and is constant afterwards,
/// unless it has a [`Decay`].
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
    #[serde(default)]
    decay: Option<Decay>,
}

impl LearningRate {
    /// A rate that reaches `peak` after `warmup_tokens`, at once if they are zero.
    ///
    /// # Errors
    ///
    /// The peak is not a finite number above zero.
    pub fn new(peak: f64, warmup_tokens: Tokens) -> Result<Self, LearningRateError> {
        if !(peak.is_finite() && peak > 0.0) {
            return Err(LearningRateError::Peak { found: peak });
        }
        Ok(Self { peak, warmup_tokens, decay: None })
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
        Ok(Self { decay: self.decay, ..Self::new(peak, self.warmup_tokens)? })
    }

    /// The same rate with a decay, which belongs to one stage.
    #[must_use]
    pub fn with_decay(self, decay: Option<Decay>) -> Self {
        Self { decay, ..self }
    }

    /// The rate of the step that begins after `tokens_seen` and takes `batch` more.
    ///
    /// While the rate rises, the tokens of the step count, so that the first step is not lost to a
    /// rate of zero and the step that ends the warm-up has the peak. While it falls, they do not, so
    /// that the last step is not lost to a rate of zero either. A decay that begins within the
    /// warm-up scales it.
    #[must_use]
    pub fn at(self, tokens_seen: Tokens, batch: Tokens) -> f64 {
        let level = self.decay.map_or(self.peak, |decay| self.peak * decay.at(tokens_seen));
        let reached = tokens_seen + batch;
        if reached >= self.warmup_tokens {
            return level;
        }
        level * (reached.0 as f64 / self.warmup_tokens.0 as f64)
    }

    /// Whether a step that begins after `tokens_seen` has a rate that the decay has lowered.
    #[must_use]
    pub fn decays(self, tokens_seen: Tokens) -> bool {
        self.decay.is_some_and(|decay| tokens_seen > decay.start())
    }

    /// How it falls at the end of its stage, if it does.
    #[must_use]
    pub fn decay(self) -> Option<Decay> {
        self.decay
    }

    /// The rate after the warm-up and before any decay.
    #[must_use]
    pub fn peak(self) -> f64 {
        self.peak
    }
}

#[cfg(test)]
mod tests;
