//! `RunConfig`: a run as its file describes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use terrace_base::{Seed, Tokens};
use terrace_policy::spike::SpikeSettings;

use crate::batch::{Batch, StageBatch};
use crate::bytes::Bytes;
use crate::decay::RateDecay;
use crate::device::DeviceChoice;
use crate::error::Error;
use crate::mixture::Mixture;
use crate::model::ModelConfig;
use crate::path;
use crate::segments::MixtureChange;

/// A run as written: what to train, on what, in which stages.
///
/// Serialised, it is a complete run file without `extends`, every default spelt out; loading that
/// file gives an equal value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// What people call the run.
    pub name: String,
    /// The number that all randomness of the run comes from.
    #[serde(default = "default_seed")]
    pub seed: Seed,
    /// The folder that the run writes to.
    #[serde(deserialize_with = "path::deserialize")]
    pub run_directory: PathBuf,
    /// The device that computes.
    #[serde(default)]
    pub device: DeviceChoice,
    /// The model that is trained.
    pub model: ModelConfig,
    /// The shape of a step, and how it is computed.
    pub training: Training,
    /// AdamW and its learning rate.
    pub optimizer: Optimizer,
    /// How many tokens a step takes, and when that grows.
    pub batch: Batch,
    /// What counts as a loss spike, and what is done about it.
    #[serde(default)]
    pub spikes: SpikeSettings,
    /// When the state is saved, and what is kept.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// When the held-out loss is measured.
    #[serde(default)]
    pub validation: Validation,
    /// When the model is asked tasks, and which; if not set, never.
    #[serde(default)]
    pub evaluation: Option<Evaluation>,
    /// The data, by name.
    pub sources: BTreeMap<String, Source>,
    /// What is trained one after the other.
    pub stages: Vec<Stage>,
}

/// The shape of a step, and how it is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The number of targets in one sequence.
    pub sequence_length: usize,
    /// The number of sequences in one forward-backward pass.
    #[serde(default = "one")]
    pub micro_batch_sequences: usize,
    /// Which layers forget their activations and compute them again for the backward pass.
    #[serde(default)]
    pub recompute: Recompute,
    /// The memory that `recompute = "auto"` may plan with; by default 0.8 of what the device has.
    #[serde(default)]
    pub memory_budget: Option<Bytes>,
    /// The number of tokens whose logits exist at one time.
    #[serde(default = "default_chunk")]
    pub cross_entropy_chunk_tokens: usize,
    /// The global norm above which gradients are scaled down to it.
    #[serde(default = "one_f64")]
    pub gradient_norm_max: f64,
    /// The number of bad steps in a row after which the run stops.
    #[serde(default = "default_bad_steps")]
    pub max_consecutive_bad_steps: u32,
    /// The number format of weights and products.
    #[serde(default)]
    pub precision: Precision,
    /// Whose norm gradients are scaled down by.
    #[serde(default)]
    pub gradient_clipping: GradientClipping,
    /// Updates a layer as soon as its gradient is there, and gives the gradient up.
    #[serde(default)]
    pub gradient_release: bool,
}

/// AdamW's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The learning rate after the warm-up, constant unless a stage lets it decay.
    pub learning_rate: f64,
    /// The number of tokens over which the learning rate rises from zero.
    #[serde(default)]
    pub warmup_tokens: Tokens,
    /// The decay of the first moment per step.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    /// The decay of the second moment per step.
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// What is added to the root of the second moment.
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    /// The decoupled weight decay of the matrices; norms and embeddings do not decay.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// The number format of the moments of matrices.
    #[serde(default)]
    pub moments: MomentFormat,
}

/// When the state is saved, and what is kept.
///
/// A stage's end and the end of the run always save.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Saves at the first step at or after each multiple of this.
    pub every_tokens: Option<Tokens>,
    /// Saves after this many steps; both this and `every_tokens` may be given.
    pub every_steps: Option<u64>,
    /// The number of newest checkpoints that are kept.
    pub keep_last: usize,
    /// Keeps one checkpoint per so many tokens for ever; 0 keeps none.
    pub keep_every_tokens: Tokens,
    /// Keeps the checkpoint with the best held-out loss.
    pub keep_best: bool,
    /// Goes on training while a checkpoint of the cadence is written. Until it is on disk its state is held
    /// in the host's memory.
    pub asynchronous: bool,
}

/// When the held-out loss is measured.
///
/// It is always measured before the first stage and after each stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Also measures every so many tokens; 0 does not.
    pub every_tokens: Tokens,
    /// The number of held-out windows per source, or all if there are fewer.
    pub sequences_per_source: u64,
}

/// When the model is asked tasks, and which.
///
/// No number of the run depends on it. The model is always evaluated after each stage; its loss on
/// held-out text is measured along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// The task files; without one only held-out text is measured.
    #[serde(deserialize_with = "path::deserialize_list")]
    pub tasks: Vec<PathBuf>,
    /// Also evaluates before the first step, and the base model where it was made deeper.
    pub at_start: bool,
    /// Also evaluates at the first step at or after each multiple of this; 0 does not.
    pub every_tokens: Tokens,
    /// Of each task, or of each of its subsets, only the first so many items.
    pub limit: Option<usize>,
    /// The requests that are worked on at once.
    pub requests_at_once: usize,
    /// The most tokens of a prompt and what follows; by default 4096, or what the model has.
    pub context_length: Option<usize>,
    /// Whether scores do not depend, to the last bit, on what is worked on at once.
    pub batch_invariant: bool,
}

/// One source of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The folder of the prepared edition, with its `manifest.json`.
    #[serde(deserialize_with = "path::deserialize")]
    pub edition: PathBuf,
    /// The file that says how to prepare the edition.
    #[serde(default, deserialize_with = "path::deserialize_option")]
    pub prepare: Option<PathBuf>,
    /// How often the source may be read over the whole run.
    #[serde(default)]
    pub max_epochs: Option<u32>,
}

/// A phase of the run with its own mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What people call the stage; unique in a run.
    pub name: String,
    /// The number of tokens to train on, rounded down to whole sequences.
    pub budget_tokens: Tokens,
    /// A learning rate for this stage in place of the run's.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// The batch that the stage begins with.
    #[serde(default)]
    pub batch: StageBatch,
    /// The weight of each source at the beginning of the stage.
    pub mixture: Mixture,
    /// The weights at the end of the stage, reached linearly; by default those of the beginning.
    #[serde(default)]
    pub mixture_end: Option<Mixture>,
    /// How the learning rate falls at the end of the stage; by default it does not.
    #[serde(default)]
    pub decay: Option<RateDecay>,
    /// Other weights from some token of the stage on, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixture_changes: Vec<MixtureChange>,
}

/// Which layers forget their activations and compute them again for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// No layer: the fastest, with the most memory.
    None,
    /// Every layer: the least memory, for about a third more work.
    All,
    /// As few layers as the memory allows.
    #[default]
    Auto,
}

/// The number format of weights and products. Norms, rotations, the gate, softmax, loss, the residual
/// stream and sums of gradients are f32 in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// Weights in f32, products in bf16.
    #[serde(rename = "bf16-mixed")]
    Bf16Mixed,
    /// Matrices in bf16, rounded stochastically when they are updated, and products in it.
    #[serde(rename = "bf16")]
    Bf16,
}

/// The number format of Adam's moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomentFormat {
    /// Single precision.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// bf16, rounded stochastically.
    #[serde(rename = "bf16")]
    Bf16,
    /// A byte each, with a scale for every 256.
    #[serde(rename = "8-bit")]
    EightBit,
}

/// Whose norm a gradient is scaled down by where it is above `gradient_norm_max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientClipping {
    /// That of the whole gradient.
    #[default]
    Global,
    /// That of each layer, of the embedding and of the head for itself.
    PerLayer,
    /// That of the whole gradient of the last step: nothing has to wait for a norm.
    PreviousNorm,
}

impl Precision {
    /// Its name in a run file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16Mixed => "bf16-mixed",
            Self::Bf16 => "bf16",
        }
    }
}

impl MomentFormat {
    /// Its name in a run file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::EightBit => "8-bit",
        }
    }
}

impl GradientClipping {
    /// Its name in a run file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::PerLayer => "per-layer",
            Self::PreviousNorm => "previous-norm",
        }
    }
}

impl RunConfig {
    /// Writes the run as a complete run file with absolute paths.
    ///
    /// # Errors
    ///
    /// A path is not UTF-8, which TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| Error::Unwritable { reason: error.to_string() })
    }

    /// Writes the run as a complete run file that lies in `directory`: its paths are relative to
    /// it, so that a folder with a run and its data can be moved.
    ///
    /// # Errors
    ///
    /// As [`to_toml`](Self::to_toml).
    pub fn to_toml_in(&self, directory: &Path) -> Result<String, Error> {
        let mut relative = self.clone();
        relative.paths_mut().into_iter().for_each(|p| *p = path::relative_to(p, directory));
        relative.to_toml()
    }

    /// The learning rate of a stage: its own, or the run's.
    #[must_use]
    pub fn learning_rate(&self, stage: &Stage) -> f64 {
        stage.learning_rate.unwrap_or(self.optimizer.learning_rate)
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = vec![&mut self.run_directory];
        paths.extend(self.model.path.as_mut());
        paths.extend(self.model.tokenizer.as_mut());
        paths.extend(self.evaluation.iter_mut().flat_map(|evaluation| &mut evaluation.tasks));
        for source in self.sources.values_mut() {
            paths.push(&mut source.edition);
            paths.extend(source.prepare.as_mut());
        }
        paths
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every_tokens: None,
            every_steps: None,
            keep_last: 3,
            keep_every_tokens: Tokens(0),
            keep_best: true,
            asynchronous: true,
        }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { every_tokens: Tokens(0), sequences_per_source: 64 }
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            tasks: Vec::new(),
            at_start: true,
            every_tokens: Tokens(0),
            limit: None,
            requests_at_once: 8,
            context_length: None,
            batch_invariant: false,
        }
    }
}

fn default_seed() -> Seed {
    Seed(17)
}

fn one() -> usize {
    1
}

fn one_f64() -> f64 {
    1.0
}

fn default_chunk() -> usize {
    256
}

fn default_bad_steps() -> u32 {
    5
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.95
}

fn default_epsilon() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    0.1
}
