//! The batch section: how many tokens a step takes, and what may change that.

mod policy;

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use terrace_base::Tokens;
use terrace_policy::batch::{AdvisorPower, Coupling, Ramp};

/// How many tokens a step takes, and when that grows. All sizes are whole sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// What decides about growth.
    #[serde(default)]
    pub mode: BatchMode,
    /// The first batch; in mode `steps` the schedule says it.
    #[serde(default)]
    pub initial_tokens: Option<Tokens>,
    /// The largest batch, in all modes but `fixed` and `steps`.
    #[serde(default)]
    pub maximum_tokens: Option<Tokens>,
    /// The factor of one growth, in the modes that measure: exactly in `plateau`, at most in others.
    #[serde(default = "default_growth_factor")]
    pub growth_factor: u64,
    /// The batches by tokens seen, in mode `steps`.
    #[serde(default)]
    pub schedule: Option<BatchSchedule>,
    /// The tokens over which the batch grows to the largest one, in mode `ramp`.
    #[serde(default)]
    pub ramp_tokens: Option<Tokens>,
    /// By what the batch grows at a time, in mode `ramp`; by default a sixteenth of the way, in whole
    /// micro-batches.
    #[serde(default)]
    pub ramp_increment_tokens: Option<Tokens>,
    /// Whether the gradient noise scale is measured and recorded.
    #[serde(default = "yes")]
    pub noise_scale: bool,
    /// In how many tokens the running means of noise scale and loss forget half of themselves; by
    /// default 2 % of a stage.
    #[serde(default)]
    pub half_life_tokens: Option<Tokens>,
    /// How many tokens a step is worth: the batch is the root of this times the noise scale. By
    /// default the first batch.
    #[serde(default)]
    pub step_cost_tokens: Option<Tokens>,
    /// The batch as a power of the loss.
    #[serde(default)]
    pub loss_law: LossLawConfig,
    /// Who advises the plateau test, in mode `hybrid`.
    #[serde(default)]
    pub advisor: AdvisorChoice,
    /// What the advisor may do to a growth, in mode `hybrid`.
    #[serde(default)]
    pub advisor_power: AdvisorPower,
    /// Which of the optimizer's constants follow the batch.
    #[serde(default)]
    pub coupling: Coupling,
    /// The plateau test, in modes `plateau` and `hybrid`; its bounds hold in all modes that measure.
    #[serde(default)]
    pub plateau: Plateau,
}

/// The batch as a power of the loss: `coefficient / loss^exponent`.
///
/// # Source
///
/// The defaults are MiniCPM's; [`terrace_policy::batch::LossLaw`] has others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossLawConfig {
    /// The batch at a loss of one nat, in tokens.
    pub coefficient_tokens: f64,
    /// The power.
    pub exponent: f64,
}

/// Who advises the plateau test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdvisorChoice {
    /// The root of the noise scale.
    #[default]
    NoiseScale,
    /// The law of the loss.
    LossLaw,
}

/// What decides about the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchMode {
    /// Nothing: it stays as it is.
    Fixed,
    /// A schedule by tokens seen.
    Steps,
    /// The tokens seen: it grows in proportion to them.
    Ramp,
    /// The measured loss: when it stops falling, the batch grows.
    #[default]
    Plateau,
    /// The noise of the gradient: the batch is the root of the noise scale.
    GnsSqrt,
    /// A law that gives the batch for a loss.
    LossLaw,
    /// The measured loss, within what noise scale or loss law allow.
    Hybrid,
}

impl BatchMode {
    /// As it is written in a run file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Steps => "steps",
            Self::Ramp => "ramp",
            Self::Plateau => "plateau",
            Self::GnsSqrt => "gns-sqrt",
            Self::LossLaw => "loss-law",
            Self::Hybrid => "hybrid",
        }
    }

    /// Whether the plateau test decides.
    #[must_use]
    pub fn has_test(self) -> bool {
        matches!(self, Self::Plateau | Self::Hybrid)
    }

    /// Whether something that is measured decides: the steps are not known beforehand.
    #[must_use]
    pub fn measures(self) -> bool {
        self.has_test() || matches!(self, Self::GnsSqrt | Self::LossLaw)
    }
}

/// The plateau test: an equivalence test on the slope of the loss.
///
/// # Source
///
/// `policy::batch` holds the test itself; here are its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// The descent below which the loss counts as flat, in nats per 1% of the stage at the stage's
    /// first batch; per step it stays the same when the batch grows.
    pub nats_per_percent: f64,
    /// The chance, per stage, of any growth while the noise-free descent is above the threshold.
    pub alpha: f64,
    /// The least number of tokens from one growth to the next.
    pub minimum_tokens_between: Tokens,
    /// No growth that would leave the stage fewer steps than this.
    pub minimum_steps_left: u64,
    /// The number of steps after a growth in which none is considered; by default a quarter of the
    /// window that the growth was decided on, and at least three time constants of `beta2`.
    pub cooldown_steps: Option<u64>,
    /// A learning rate known to be stable at the first batch: no batch may exceed the first one
    /// times the square of this over the learning rate.
    pub safe_learning_rate: Option<f64>,
    /// The standard deviation of one step's loss that the plan assumes for a batch of 4,194,304
    /// tokens, in nats; for other batches it is scaled with the root of the size. Only the plan
    /// uses it: the run measures.
    pub assumed_noise_sd: f64,
}

/// Batches by tokens seen, written `"0:4Mi 200B:8Mi"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchSchedule(pub Vec<ScheduleEntry>);

/// One entry of a [`BatchSchedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleEntry {
    /// From this many tokens seen on,
    pub tokens_seen: Tokens,
    /// a step takes this many.
    pub batch: Tokens,
}

/// The batch that a stage begins with: `"carry"`, or an amount of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StageBatch {
    /// The batch of the stage before; for the first stage the run's first batch.
    #[default]
    Carry,
    /// This batch.
    Tokens(Tokens),
}

impl Batch {
    /// The first batch of the run.
    ///
    /// # Panics
    ///
    /// The configuration was not checked: neither `initial_tokens` nor a schedule is there.
    #[must_use]
    pub fn first_tokens(&self) -> Tokens {
        let scheduled = || self.schedule.as_ref().and_then(|s| s.0.first()).map(|e| e.batch);
        match self.mode {
            BatchMode::Steps => scheduled().or(self.initial_tokens),
            _ => self.initial_tokens,
        }
        .expect("a checked configuration has a first batch")
    }

    /// The largest batch that a mode that measures may reach: the maximum, or the stability bound
    /// `first (safe / learning_rate)^2` (the power is 1 where the rate follows the root of the batch,
    /// and 2/3 where it is in proportion to it) rounded down to whole sequences, whichever is smaller, but
    /// never below the run's first batch.
    ///
    /// # Source
    ///
    /// Under Adam the stable learning rate grows with the root of the batch (Malladi et al. 2022,
    /// arXiv 2205.10287), so the batch that a fixed rate suits grows with its square.
    #[must_use]
    pub fn largest_tokens(&self, sequence_length: usize, learning_rate: f64) -> Tokens {
        let first = self.first_tokens();
        let maximum = self.maximum_tokens.unwrap_or(first);
        let rate = self.coupling.learning_rate;
        let bound = self.plateau.safe_learning_rate.map_or(maximum, |safe| {
            let tokens =
                first.0 as f64 * (safe / learning_rate).powf(1.0 / (0.5 + rate.exponent()));
            // A float cast saturates, so an enormous bound is simply no bound.
            let sequences = (tokens / sequence_length as f64).floor() as u64;
            Tokens(sequences.saturating_mul(sequence_length as u64))
        });
        maximum.min(bound).max(first)
    }

    /// The batches by tokens seen, where they are known beforehand and change.
    #[must_use]
    pub fn known_schedule(&self, sequence_length: u64, micro_batch: u64) -> Option<BatchSchedule> {
        match self.mode {
            BatchMode::Steps => self.schedule.clone(),
            BatchMode::Ramp => {
                let first = self.first_tokens().0 / sequence_length;
                let steps = self.ramp(sequence_length, micro_batch).thresholds(first);
                let entry = |(tokens_seen, sequences): (Tokens, u64)| {
                    let batch = Tokens(sequences * sequence_length);
                    ScheduleEntry { tokens_seen, batch }
                };
                Some(BatchSchedule(steps.into_iter().map(entry).collect()))
            }
            _ => None,
        }
    }

    /// The ramp of mode `ramp`.
    ///
    /// # Panics
    ///
    /// The configuration was not checked.
    #[must_use]
    pub fn ramp(&self, sequence_length: u64, micro_batch: u64) -> Ramp {
        let (first, last) = (self.first_tokens(), self.maximum_tokens);
        let last = last.expect("a checked ramp has an end").max(first);
        let derived = || {
            let way = (last.0 - first.0) / sequence_length;
            way.div_ceil(RAMP_INCREMENTS).div_ceil(micro_batch).max(1) * micro_batch
        };
        let written = self.ramp_increment_tokens.map(|tokens| tokens.0 / sequence_length);
        Ramp {
            to_sequences: last.0 / sequence_length,
            tokens: self.ramp_tokens.expect("a checked ramp has a length"),
            increment_sequences: written.unwrap_or_else(derived),
        }
    }

    /// The batches that plateau mode can pass through from `first` on: each the growth factor times
    /// the one before, the last cut to `largest`.
    #[must_use]
    pub fn rungs(&self, first: Tokens, largest: Tokens) -> Vec<Tokens> {
        let mut rungs = vec![first];
        while let Some(last) = rungs.last().copied().filter(|last| *last < largest) {
            rungs.push(Tokens(last.0.saturating_mul(self.growth_factor)).min(largest));
        }
        rungs
    }
}

impl BatchSchedule {
    /// The batch of a step that begins when `tokens_seen` have been seen.
    ///
    /// # Panics
    ///
    /// The schedule was not checked: it does not begin at zero.
    #[must_use]
    pub fn at(&self, tokens_seen: Tokens) -> Tokens {
        self.0
            .iter()
            .rfind(|entry| entry.tokens_seen <= tokens_seen)
            .expect("a checked schedule begins at zero")
            .batch
    }
}

impl FromStr for BatchSchedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entry = |part: &str| {
            let (tokens_seen, batch) = part.split_once(':').ok_or_else(|| {
                format!("`{part}` is not tokens_seen:batch, as in \"0:4Mi 200B:8Mi\"")
            })?;
            let tokens = |text: &str| text.parse::<Tokens>().map_err(|error| error.to_string());
            Ok(ScheduleEntry { tokens_seen: tokens(tokens_seen)?, batch: tokens(batch)? })
        };
        text.split_whitespace().map(entry).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for BatchSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{}:{}", entry.tokens_seen.0, entry.batch.0)?;
        }
        Ok(())
    }
}

impl Serialize for BatchSchedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BatchSchedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for StageBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Carry => serializer.serialize_str("carry"),
            Self::Tokens(tokens) => tokens.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StageBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StageBatchVisitor;
        impl Visitor<'_> for StageBatchVisitor {
            type Value = StageBatch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"carry\" or a token amount such as \"4Mi\"")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<StageBatch, E> {
                Ok(StageBatch::Tokens(Tokens(value)))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<StageBatch, E> {
                let tokens = u64::try_from(value);
                tokens
                    .map(|tokens| StageBatch::Tokens(Tokens(tokens)))
                    .map_err(|_| E::custom("a token amount cannot be negative"))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<StageBatch, E> {
                match value {
                    "carry" => Ok(StageBatch::Carry),
                    _ => value.parse().map(StageBatch::Tokens).map_err(|_| {
                        E::custom(format!("`{value}` is neither \"carry\" nor a token amount"))
                    }),
                }
            }
        }
        deserializer.deserialize_any(StageBatchVisitor)
    }
}

impl Default for Plateau {
    fn default() -> Self {
        Self {
            nats_per_percent: 0.0002,
            alpha: 0.05,
            minimum_tokens_between: Tokens(0),
            minimum_steps_left: 100,
            cooldown_steps: None,
            safe_learning_rate: None,
            assumed_noise_sd: 0.015,
        }
    }
}

impl Default for LossLawConfig {
    fn default() -> Self {
        let law = terrace_policy::batch::LossLaw::MINICPM;
        Self { coefficient_tokens: law.coefficient_tokens, exponent: law.exponent }
    }
}

/// A ramp has so many increments unless the run file says otherwise.
const RAMP_INCREMENTS: u64 = 16;

/// Doubling keeps micro-steps and the order of the data whole.
pub(crate) const DEFAULT_GROWTH_FACTOR: u64 = 2;

fn yes() -> bool {
    true
}

fn default_growth_factor() -> u64 {
    DEFAULT_GROWTH_FACTOR
}

#[cfg(test)]
mod tests {
    use terrace_policy::batch::LearningRateCoupling;

    use super::*;

    fn plateau(initial: u64, maximum: u64, growth_factor: u64) -> Batch {
        Batch {
            mode: BatchMode::Plateau,
            initial_tokens: Some(Tokens(initial)),
            maximum_tokens: Some(Tokens(maximum)),
            growth_factor,
            ..toml::from_str("").unwrap()
        }
    }

    fn rungs(batch: &Batch, sequence_length: usize, learning_rate: f64) -> Vec<u64> {
        let first = batch.first_tokens();
        let largest = batch.largest_tokens(sequence_length, learning_rate);
        batch.rungs(first, largest).into_iter().map(|t| t.0).collect()
    }

    #[test]
    fn rungs_end_at_the_maximum() {
        assert_eq!(rungs(&plateau(4, 32, 2), 2, 1e-3), [4, 8, 16, 32]);
        assert_eq!(rungs(&plateau(4, 30, 3), 2, 1e-3), [4, 12, 30]);
        assert_eq!(rungs(&plateau(4, 4, 2), 2, 1e-3), [4]);
    }

    #[test]
    fn the_stability_bound_caps_the_rungs() {
        let mut batch = plateau(40, 4000, 2);
        batch.plateau.safe_learning_rate = Some(2e-3);
        // 40 tokens times 2^2 are 160, sixteen whole sequences of ten.
        assert_eq!(rungs(&batch, 10, 1e-3), [40, 80, 160]);
        // A rate that follows the root of the batch doubles with four times the batch.
        batch.coupling.learning_rate = LearningRateCoupling::Sqrt;
        assert_eq!(rungs(&batch, 10, 1e-3), [40, 80]);
        batch.coupling.learning_rate = LearningRateCoupling::None;
        // A bound below the first batch cannot shrink it.
        assert_eq!(rungs(&batch, 10, 1.0), [40]);
    }

    #[test]
    fn schedules_are_read_and_written() {
        let schedule: BatchSchedule = "0:4Mi  200B:8Mi".parse().unwrap();
        assert_eq!(schedule.to_string(), "0:4194304 200000000000:8388608");
        assert_eq!(schedule.to_string().parse(), Ok(schedule.clone()));
        assert_eq!(schedule.at(Tokens(199_999_999_999)), Tokens(4 << 20));
        assert_eq!(schedule.at(Tokens(200_000_000_000)), Tokens(8 << 20));
        assert!("4Mi".parse::<BatchSchedule>().is_err());
        assert!("0:apples".parse::<BatchSchedule>().is_err());
    }
}
