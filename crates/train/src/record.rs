//! The lines of `metrics.jsonl`, and what is said of a step that was refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, Tokens};
use terrace_policy::batch::NoiseSample;

/// One applied step, as a line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The number of the step, counted from 1 over the whole run.
    pub step: u64,
    /// The name of the stage.
    pub stage: String,
    /// Tokens seen, this step included.
    pub tokens_seen: Tokens,
    /// The tokens of this step: sequences × sequence length.
    pub batch_tokens: Tokens,
    /// The targets that the loss is the mean of.
    pub target_tokens: u64,
    /// The mean loss per target.
    pub nats: f64,
    /// The mean loss per target of each source that the step drew from.
    pub nats_per_source: BTreeMap<String, f64>,
    /// The learning rate that the update used.
    pub learning_rate: f64,
    /// The global norm of the mean gradient before clipping.
    pub gradient_norm: f64,
    /// The gradient noise scale in targets: the mean of `noise_trace` over that of
    /// `noise_gradient_square`. Null where it is not measured, or larger than can be measured.
    #[serde(default)]
    pub noise_scale: Option<f64>,
    /// The running mean of the gradient's variance from target to target; null if not measured.
    #[serde(default)]
    pub noise_trace: Option<f64>,
    /// The running mean of the squared true gradient; null if not measured.
    #[serde(default)]
    pub noise_gradient_square: Option<f64>,
    /// What this step says about both, without bias; null if not measured.
    #[serde(default)]
    pub noise_sample: Option<NoiseSample>,
    /// The digest of the step's token ids and targets.
    pub token_digest: Fingerprint,
    /// The wall time of the step.
    pub seconds: f64,
    /// Tokens of this step over its wall time.
    pub tokens_per_second: f64,
    /// The share of the device's peak arithmetic, where that is known.
    pub mfu: Option<f64>,
}

/// A window by its place: what one needs to look at suspicious data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowName {
    /// The source.
    pub source: String,
    /// The edition that the source stands for.
    pub edition: Fingerprint,
    /// The window within the edition.
    pub window: u64,
    /// Its place in the run.
    pub sequence: u64,
}

/// A step that was not applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BadStep {
    /// Tokens seen, the refused ones included.
    pub tokens_seen: Tokens,
    /// What was not finite.
    pub reason: String,
    /// The windows whose loss was not finite, or all of the step if only the gradient was not.
    pub windows: Vec<WindowName>,
    /// Bad steps in a row, this one included.
    pub consecutive: u32,
}
