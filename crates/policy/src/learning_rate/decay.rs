//! How the rate falls at the end of a stage.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use super::LearningRateError;

/// The curve on which a learning rate falls; `x` goes from 0 to 1 over the decay.
///
/// # Source
///
/// A short decay behind a long constant rate is WSD, of MiniCPM (Hu et al. 2024, arXiv 2404.06395),
/// where a tenth of the tokens was enough. `1-sqrt` is the curve that Hägele et al. (2024, arXiv
/// 2405.18392) found best for it. A linear fall to zero over a whole stage is the annealing of Llama 3
/// and OLMo 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecayShape {
    /// `1 - x`.
    #[default]
    #[serde(rename = "linear")]
    Linear,
    /// `(1 + cos πx) / 2`.
    #[serde(rename = "cosine")]
    Cosine,
    /// `1 - √x`.
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
}

impl DecayShape {
    /// What is left at `progress`: 1 where the decay begins, 0 where it ends.
    #[must_use]
    pub fn left(self, progress: f64) -> f64 {
        let left = match self {
            Self::Linear => 1.0 - progress,
            Self::Cosine => 0.5 + 0.5 * (PI * progress).cos(),
            Self::OneMinusSqrt => 1.0 - progress.sqrt(),
        };
        // The cosine of π may come out a rounding below -1.
        left.max(0.0)
    }

    /// Its name in a run file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::OneMinusSqrt => "1-sqrt",
        }
    }
}

/// A fall of the rate over the last tokens of a stage.
///
/// # Units
///
/// Tokens seen since the beginning of the run, never steps, whose size changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decay {
    start: Tokens,
    tokens: Tokens,
    shape: DecayShape,
    final_fraction: f64,
}

impl Decay {
    /// A decay to `final_fraction` of the peak over the last `share` of a stage that begins at
    /// `stage_start` and trains on `budget`.
    ///
    /// # Errors
    ///
    /// The share is not above 0 and at most 1, or the fraction not at least 0 and below 1.
    pub fn at_the_end_of(
        [stage_start, budget]: [Tokens; 2],
        share: f64,
        shape: DecayShape,
        final_fraction: f64,
    ) -> Result<Self, LearningRateError> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(LearningRateError::DecayShare { found: share });
        }
        if !(0.0..1.0).contains(&final_fraction) {
            return Err(LearningRateError::FinalFraction { found: final_fraction });
        }
        // Whole tokens, so that the edge is the same number wherever it is compared.
        let tokens = Tokens(((share * budget.0 as f64).round() as u64).min(budget.0));
        let start = Tokens(stage_start.0 + (budget.0 - tokens.0));
        Ok(Self { start, tokens, shape, final_fraction })
    }

    /// The tokens seen where it begins.
    #[must_use]
    pub fn start(self) -> Tokens {
        self.start
    }

    /// The tokens that it takes.
    #[must_use]
    pub fn tokens(self) -> Tokens {
        self.tokens
    }

    /// The curve.
    #[must_use]
    pub fn shape(self) -> DecayShape {
        self.shape
    }

    /// The factor of the peak after `tokens_seen`: 1 until it begins, the final fraction at its end
    /// and behind it.
    #[must_use]
    pub fn at(self, tokens_seen: Tokens) -> f64 {
        let into = tokens_seen.0.saturating_sub(self.start.0).min(self.tokens.0);
        if into == 0 {
            return 1.0;
        }
        let left = self.shape.left(into as f64 / self.tokens.0 as f64);
        self.final_fraction + (1.0 - self.final_fraction) * left
    }
}
