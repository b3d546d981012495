//! How a stage's learning rate falls at its end.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;
use terrace_policy::learning_rate::{Decay, DecayShape, LearningRate, LearningRateError};

use crate::run::{RunConfig, Stage};

/// A fall of the learning rate over the last tokens of a stage.
///
/// Over the whole stage, as by default, it anneals what a constant rate has trained; over a tenth it
/// makes the stage one of warm-up, stable rate and decay (WSD).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateDecay {
    /// The share of the stage's tokens, its last ones, over which the rate falls.
    pub share: f64,
    /// The curve on which it falls.
    pub shape: DecayShape,
    /// Where it ends, as a fraction of the stage's rate.
    pub final_fraction: f64,
}

impl Default for RateDecay {
    fn default() -> Self {
        Self { share: 1.0, shape: DecayShape::Linear, final_fraction: 0.0 }
    }
}

impl RunConfig {
    /// The learning rate of a stage that begins after `starts_at` tokens and trains on `budget`.
    ///
    /// # Errors
    ///
    /// The configuration was not checked: the rate or its decay makes no sense.
    pub fn rate_of(
        &self,
        stage: &Stage,
        [starts_at, budget]: [Tokens; 2],
    ) -> Result<LearningRate, LearningRateError> {
        let rate = LearningRate::new(self.learning_rate(stage), self.optimizer.warmup_tokens)?;
        let decay = stage.decay.as_ref().map(|RateDecay { share, shape, final_fraction }| {
            Decay::at_the_end_of([starts_at, budget], *share, *shape, *final_fraction)
        });
        Ok(rate.with_decay(decay.transpose()?))
    }
}
