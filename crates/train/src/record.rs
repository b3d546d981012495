//! The lines of `metrics.jsonl`, and what is said of a step that was refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, Tokens};
use terrace_policy::batch::NoiseSample;
use terrace_policy::spike::SpikeEvidence;

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
    /// The targets of each source that the step drew from.
    pub target_tokens_per_source: BTreeMap<String, u64>,
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
    /// Whether loss or gradient norm was judged to spike, though the step was taken.
    #[serde(default)]
    pub is_spike: bool,
    /// The digest of the step's token ids and targets.
    pub token_digest: Fingerprint,
    /// The wall time of the step.
    pub seconds: f64,
    /// Tokens of this step over its wall time.
    pub tokens_per_second: f64,
    /// Model FLOP/s over the device's peak in dense bf16 products. Null where that is not known, and
    /// where only some layers are trained. Recomputed work is not counted.
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
    /// The documents in it, in order.
    pub documents: Vec<DocumentName>,
}

/// A document, or the piece of it that lies in a window.
///
/// The first of a window may have begun in another window, the last may go on in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentName {
    /// The offset of its first token in the window.
    pub start: u32,
    /// Its tokens in the window.
    pub tokens: u32,
    /// The digest of these tokens' ids, each as four little-endian bytes: equal for equal text.
    pub content: Fingerprint,
}

/// A window and its part in a spike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpikeWindow {
    /// The mean loss of its targets.
    pub nats: f64,
    /// Which one it is.
    #[serde(flatten)]
    pub name: WindowName,
}

/// A step whose loss or gradient norm spiked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpikeStep {
    /// Tokens seen, this step included.
    pub tokens_seen: Tokens,
    /// The mean loss per target.
    pub nats: f64,
    /// The global norm of the mean gradient before clipping.
    pub gradient_norm: f64,
    /// The numbers that made it a spike.
    pub evidence: SpikeEvidence,
    /// Whether its update was applied all the same.
    pub applied: bool,
    /// Its windows of the highest loss, the highest first.
    pub windows: Vec<SpikeWindow>,
    /// Steps in a row that were not applied, this one included.
    pub consecutive: u32,
}

/// A return to an earlier state because of a spike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewindRecord {
    /// Tokens seen when the run was given up.
    pub from_tokens: Tokens,
    /// Steps taken or refused by then.
    pub from_step: u64,
    /// Tokens seen in the state that it went back to.
    pub to_tokens: Tokens,
    /// Steps taken or refused by then.
    pub to_step: u64,
    /// The first sequence that is passed over when the run comes to it again.
    pub skip_start: u64,
    /// The sequence behind the last.
    pub skip_end: u64,
    /// How often the run has gone back, this time included.
    pub rewinds: u32,
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
