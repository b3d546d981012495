//! What a user states about the batch.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use super::modes::{Advisor, Following, Hybrid, Limits, Ramp};

/// Why a batch policy makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// A number is outside its range.
    #[error("{name} is {found}, expected {expected}")]
    Range {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// Token thresholds do not rise.
    #[error(
        "batch step {place} begins at {found} tokens, expected more than the {before} of the step \
         before it"
    )]
    Order {
        /// The step, counted from zero.
        place: usize,
        /// Its threshold.
        found: u64,
        /// The threshold before.
        before: u64,
    },
    /// A batch holds nothing.
    #[error("a batch of 0 sequences was given; a batch has at least one sequence")]
    Empty,
}

/// Who decides the size of the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchPolicy {
    /// Nobody: it stays as each stage sets it.
    Fixed,
    /// A schedule: from so many tokens on, so many sequences.
    ///
    /// A step takes effect at the first optimizer step that begins with `tokens_seen` at or above
    /// its threshold; before the first threshold the stage's own batch holds.
    ///
    /// # Source
    ///
    /// Published runs grew so, at tokens decided on before or on sight: MiniMax-01 (2025, arXiv
    /// 2501.08313) doubled three times, from 16M to 128M tokens.
    Steps(Vec<(Tokens, u64)>),
    /// It grows in proportion to the tokens seen.
    Ramp(Ramp),
    /// The controller: it grows when the loss stops falling.
    Plateau(PlateauSettings),
    /// It follows an advisor, the root of the noise scale or a law of the loss, upwards only.
    Following(Following),
    /// The controller, within what an advisor allows.
    Hybrid(Hybrid),
}

/// What the plateau controller is told; only the first two numbers are a matter of taste.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauSettings {
    /// A descent below this counts as a plateau: nats per 1 % of the stage, at its first batch.
    pub nats_per_percent: f64,
    /// The chance, per stage, of any growth while the noise-free loss still falls faster than that.
    pub alpha: f64,
    /// By how much a growth multiplies the batch.
    pub growth_factor: u64,
    /// The largest batch.
    pub maximum_sequences: Option<u64>,
    /// Tokens between two growths.
    pub minimum_tokens_between: Tokens,
    /// Steps that must be left of the stage at the new batch; by default [`beta2`](Self::beta2)'s
    /// memory, without which the optimizer never comes to rest at it.
    pub minimum_steps_left: Option<u64>,
    /// Steps after a growth in which none is considered; by default
    /// [`derived_cooldown`](Self::derived_cooldown).
    pub cooldown_steps: Option<u64>,
    /// Consecutive verdicts of a plateau before a growth, the windows half overlapping.
    pub confirmations: u32,
    /// Growths without a response after which the controller gives up for the stage.
    pub unresponsive_growths: u32,
    /// The optimizer's second-moment decay, whose memory sets the shortest cooldown.
    pub beta2: f64,
    /// The largest learning rate known to be stable at the run's first batch.
    ///
    /// Under Adam the effective step grows with the square root of the batch, so a batch of
    /// `B0 · (stable / learning rate)²` is taken as the largest stable one.
    pub stable_learning_rate: Option<f64>,
}

impl PlateauSettings {
    /// The two numbers that a user states, and defaults for all others.
    ///
    /// The defaults: doubling keeps micro-steps and data order whole; two confirmations, so that
    /// one lucky window is no growth; two unresponsive growths, so that one masked by a change in
    /// the data is not the end; `beta2` is the 0.95 of current language models.
    #[must_use]
    pub fn new(nats_per_percent: f64, alpha: f64) -> Self {
        Self {
            nats_per_percent,
            alpha,
            growth_factor: 2,
            maximum_sequences: None,
            minimum_tokens_between: Tokens(0),
            minimum_steps_left: None,
            cooldown_steps: None,
            confirmations: 2,
            unresponsive_growths: 2,
            beta2: 0.95,
            stable_learning_rate: None,
        }
    }

    /// Steps in which the second moments forget: three time constants.
    #[must_use]
    pub fn memory_steps(&self) -> u64 {
        // 1 - 0.9 is a little less than a tenth, which must not make a step more.
        (3.0 / (1.0 - self.beta2) - 1e-9).ceil() as u64
    }

    /// The cooldown after a growth that a window of `window_steps` asked for, where none is set: a
    /// quarter of the window, in which the loss finds its new course, and at least the memory of
    /// the second moments, in which the optimizer does.
    #[must_use]
    pub fn derived_cooldown(&self, window_steps: f64) -> u64 {
        ((window_steps / 4.0).ceil() as u64).max(self.memory_steps())
    }

    /// Steps that must be left after a growth.
    #[must_use]
    pub fn steps_left_needed(&self) -> u64 {
        self.minimum_steps_left.unwrap_or_else(|| self.memory_steps())
    }

    /// What bounds a growth.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            growth_factor: self.growth_factor,
            maximum_sequences: self.maximum_sequences,
            minimum_tokens_between: self.minimum_tokens_between,
            minimum_steps_left: self.steps_left_needed(),
            stable_learning_rate: self.stable_learning_rate,
        }
    }
}

impl Default for PlateauSettings {
    /// 0.0002 nats per 1 % of a stage at a level of 5 %.
    fn default() -> Self {
        Self::new(0.0002, 0.05)
    }
}

impl BatchPolicy {
    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// The first number that is outside its range.
    pub fn validate(&self) -> Result<(), BatchError> {
        match self {
            Self::Fixed => Ok(()),
            Self::Steps(steps) => validate_steps(steps),
            Self::Ramp(ramp) => ramp.validate(),
            Self::Plateau(settings) => validate_plateau(settings),
            Self::Following(following) => following.validate(),
            Self::Hybrid(hybrid) => {
                hybrid.validate_advisor()?;
                validate_plateau(&hybrid.plateau)
            }
        }
    }

    /// The plateau test, in the modes that have one.
    #[must_use]
    pub fn plateau(&self) -> Option<&PlateauSettings> {
        match self {
            Self::Plateau(settings) | Self::Hybrid(Hybrid { plateau: settings, .. }) => {
                Some(settings)
            }
            Self::Fixed | Self::Steps(_) | Self::Ramp(_) | Self::Following(_) => None,
        }
    }

    /// The plateau test, to be changed, in the modes that have one.
    pub fn plateau_mut(&mut self) -> Option<&mut PlateauSettings> {
        match self {
            Self::Plateau(settings) | Self::Hybrid(Hybrid { plateau: settings, .. }) => {
                Some(settings)
            }
            Self::Fixed | Self::Steps(_) | Self::Ramp(_) | Self::Following(_) => None,
        }
    }

    /// Who advises on the batch, in the modes that ask.
    #[must_use]
    pub fn advisor(&self) -> Option<Advisor> {
        match self {
            Self::Following(following) => Some(following.advisor),
            Self::Hybrid(hybrid) => Some(hybrid.advisor),
            Self::Fixed | Self::Steps(_) | Self::Ramp(_) | Self::Plateau(_) => None,
        }
    }
}

fn validate_steps(steps: &[(Tokens, u64)]) -> Result<(), BatchError> {
    if steps.iter().any(|(_, sequences)| *sequences == 0) {
        return Err(BatchError::Empty);
    }
    for (place, pair) in steps.windows(2).enumerate() {
        let (before, found) = (pair[0].0.0, pair[1].0.0);
        if found <= before {
            return Err(BatchError::Order { place: place + 1, found, before });
        }
    }
    Ok(())
}

fn validate_plateau(settings: &PlateauSettings) -> Result<(), BatchError> {
    if settings.maximum_sequences == Some(0) {
        return Err(BatchError::Empty);
    }
    let open = |x: f64| x > 0.0 && x.is_finite();
    let stable = settings.stable_learning_rate;
    let checks = [
        ("nats_per_percent", settings.nats_per_percent, "above 0", open(settings.nats_per_percent)),
        (
            "alpha",
            settings.alpha,
            "above 0 and at most 0.5",
            open(settings.alpha) && settings.alpha <= 0.5,
        ),
        ("growth_factor", settings.growth_factor as f64, "at least 2", settings.growth_factor >= 2),
        ("confirmations", settings.confirmations.into(), "at least 1", settings.confirmations >= 1),
        (
            "unresponsive_growths",
            settings.unresponsive_growths.into(),
            "at least 1",
            settings.unresponsive_growths >= 1,
        ),
        ("beta2", settings.beta2, "in [0, 1)", (0.0..1.0).contains(&settings.beta2)),
        ("stable_learning_rate", stable.unwrap_or(1.0), "above 0", stable.is_none_or(open)),
    ];
    match checks.into_iter().find(|(.., holds)| !holds) {
        Some((name, found, expected, _)) => Err(BatchError::Range { name, found, expected }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_named() {
        let plateau = |change: fn(&mut PlateauSettings)| {
            let mut settings = PlateauSettings::default();
            change(&mut settings);
            BatchPolicy::Plateau(settings).validate().unwrap_err().to_string()
        };
        assert_eq!(plateau(|s| s.alpha = 0.7), "alpha is 0.7, expected above 0 and at most 0.5");
        assert_eq!(plateau(|s| s.beta2 = 1.0), "beta2 is 1, expected in [0, 1)");
        assert!(plateau(|s| s.nats_per_percent = f64::NAN).starts_with("nats_per_percent"));
        assert!(plateau(|s| s.maximum_sequences = Some(0)).contains("at least one sequence"));
        assert!(BatchPolicy::Plateau(PlateauSettings::default()).validate().is_ok());
        let steps = BatchPolicy::Steps(vec![(Tokens(5), 8), (Tokens(5), 16)]);
        assert!(matches!(steps.validate(), Err(BatchError::Order { place: 1, .. })));
    }

    #[test]
    fn the_memory_of_the_second_moments_is_three_time_constants() {
        assert_eq!(PlateauSettings::default().memory_steps(), 60);
    }
}
