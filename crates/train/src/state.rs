//! Everything about a run, besides its tensors, that decides how it goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, Seed, Tokens};
use terrace_policy::batch::BatchControllerState;
use terrace_policy::mixture::{Journal, MixtureCursor};
use terrace_policy::spike::SpikeWatch;

use crate::{BatchGrowth, SourceLoss};

/// The state file of a checkpoint.
///
/// Wall-clock figures are not in it: its bytes are part of the run's digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The number that all randomness comes from; counters in this state address its streams.
    pub seed: Seed,
    /// What the model is shaped like, as a digest of its parameter names and shapes.
    pub model: Fingerprint,
    /// How far the run is.
    pub progress: Progress,
    /// Where it stands in the mixture.
    pub cursor: MixtureCursor,
    /// The sequences that were drawn and not trained on.
    pub journal: Journal,
    /// What the batch controller remembers.
    pub controller: BatchControllerState,
    /// What is remembered about loss spikes.
    #[serde(default)]
    pub spikes: SpikeWatch,
    /// The held-out losses at the edges of the stages so far, in order.
    pub held_out: Vec<HeldOut>,
    /// The growths so far, in order.
    pub growths: Vec<BatchGrowth>,
    /// The steps of each stage so far.
    pub stage_steps: Vec<u64>,
    /// The updates of each segment so far.
    pub segment_updates: Vec<u64>,
    /// The powers of the second moment's decay that each segment has seen, summed; empty where the
    /// decay never changed.
    #[serde(default)]
    pub segment_ages: Vec<f64>,
    /// The gradient norm of the last step that was applied, where the next one is clipped by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
}

impl RunState {
    /// The powers of the second moment's decay of each segment: its updates, unless others are kept.
    #[must_use]
    pub fn ages(&self) -> Vec<f64> {
        if self.segment_ages.is_empty() {
            return self.segment_updates.iter().map(|updates| *updates as f64).collect();
        }
        self.segment_ages.clone()
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The current stage, counted from zero; the number of stages when all are done.
    pub stage: usize,
    /// Whether the current stage was entered.
    pub entered: bool,
    /// Steps taken or refused.
    pub steps: u64,
    /// Updates that the optimizer has applied.
    pub updates: u64,
    /// Sequences taken in the current stage.
    pub stage_sequences: u64,
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// Targets trained on.
    pub target_tokens_seen: u64,
    /// Refused steps since the last applied one.
    pub consecutive_bad_steps: u32,
}

/// What a measurement before the first stage comes after.
pub const BEFORE: &str = "before";
/// What a measurement of the model before it was made deeper comes after.
pub const BASE: &str = "(base)";

/// One measurement of the held-out loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The stage that ended with this measurement, [`BEFORE`] for the first one, [`BASE`] for one of
    /// the model before it was made deeper, or none for one within a stage, which is not kept in the
    /// state.
    pub after: Option<String>,
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// The loss on each source.
    pub sources: BTreeMap<String, SourceLoss>,
}

impl HeldOut {
    /// The loss per target, every source counted alike; none without held-out text.
    #[must_use]
    pub fn mean_nats(&self) -> Option<f64> {
        let count = self.sources.len();
        let sum: f64 = self.sources.values().map(SourceLoss::nats_per_token).sum();
        (count > 0).then(|| sum / count as f64)
    }

    /// The bits per byte of each source.
    #[must_use]
    pub fn bits_per_byte(&self) -> BTreeMap<String, f64> {
        self.sources.iter().map(|(name, loss)| (name.clone(), loss.bits_per_byte())).collect()
    }
}
