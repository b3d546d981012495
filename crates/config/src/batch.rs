//! The batch section: how many tokens a step takes, and what may change that.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use terrace_base::Tokens;

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
    /// The largest batch, in mode `plateau`.
    #[serde(default)]
    pub maximum_tokens: Option<Tokens>,
    /// The factor of one growth, in mode `plateau`.
    #[serde(default = "default_growth_factor")]
    pub growth_factor: u64,
    /// The batches by tokens seen, in mode `steps`.
    #[serde(default)]
    pub schedule: Option<BatchSchedule>,
    /// The plateau test, in mode `plateau`.
    #[serde(default)]
    pub plateau: Plateau,
}

/// What decides about the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchMode {
    /// Nothing: it stays as it is.
    Fixed,
    /// A schedule by tokens seen.
    Steps,
    /// The measured loss: when it stops falling, the batch grows.
    #[default]
    Plateau,
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
            BatchMode::Fixed | BatchMode::Plateau => self.initial_tokens,
        }
        .expect("a checked configuration has a first batch")
    }

    /// The largest batch that plateau mode may reach: the maximum, or the stability bound
    /// `first (safe / learning_rate)^2` rounded down to whole sequences, whichever is smaller, but
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
        let bound = self.plateau.safe_learning_rate.map_or(maximum, |safe| {
            let tokens = first.0 as f64 * (safe / learning_rate).powi(2);
            // A float cast saturates, so an enormous bound is simply no bound.
            let sequences = (tokens / sequence_length as f64).floor() as u64;
            Tokens(sequences.saturating_mul(sequence_length as u64))
        });
        maximum.min(bound).max(first)
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

/// Doubling keeps micro-steps and the order of the data whole.
pub(crate) const DEFAULT_GROWTH_FACTOR: u64 = 2;

fn default_growth_factor() -> u64 {
    DEFAULT_GROWTH_FACTOR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plateau(initial: u64, maximum: u64, growth_factor: u64) -> Batch {
        Batch {
            mode: BatchMode::Plateau,
            initial_tokens: Some(Tokens(initial)),
            maximum_tokens: Some(Tokens(maximum)),
            growth_factor,
            schedule: None,
            plateau: Plateau::default(),
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
