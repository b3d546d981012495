//! `RunPlan`: every number that follows from a run file and what is known of the world.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a run will do, in numbers. Its JSON names are stable; null is what cannot be known yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are JSON names with their units")]
pub struct RunPlan {
    pub name: String,
    pub run_directory: PathBuf,
    pub device: String,
    pub seed: u64,
    pub sequence_length: u64,
    pub micro_batch_sequences: u64,
    /// All stages, in whole sequences.
    pub total_tokens: u64,
    pub total_sequences: u64,
    pub batch_mode: String,
    pub model: Option<ModelPlan>,
    pub stages: Vec<StagePlan>,
    pub sources: Vec<SourcePlan>,
    pub memory: Option<MemoryPlan>,
    pub checkpoint_bytes: Option<u64>,
    pub time: Option<TimePlan>,
    /// When the model is evaluated, and on what; null if it is not.
    #[serde(default)]
    pub evaluation: Option<EvaluationPlan>,
    pub missing: Vec<Missing>,
    pub warnings: Vec<String>,
}

/// The model's size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields carry Hugging Face's names")]
pub struct ModelPlan {
    /// All weights.
    pub parameters: u64,
    /// The embedding table, which a tied head shares.
    pub parameters_embedding: u64,
    /// The weights that take part in matrix products: layers and output head.
    pub parameters_matrix: u64,
    pub layers: u64,
    pub hidden_size: u64,
    pub intermediate_size: u64,
    pub num_attention_heads: u64,
    pub num_key_value_heads: u64,
    pub head_dim: u64,
    pub vocab_size: u64,
    pub tie_word_embeddings: bool,
    /// Forward and backward, causal attention counted by half.
    pub flops_per_token: u64,
    /// `folder`, `upscaled` or `random`: where the weights come from.
    pub weights_from: String,
    /// What is made of the folder's model; null if it is trained as it is.
    pub upscale: Option<UpscalePlan>,
}

/// How the folder's model is made deeper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpscalePlan {
    /// The layers that are repeated, as written.
    pub selection: String,
    /// What the copies begin with, as written.
    pub initialization: String,
    /// `all`, `new-only` or `staged`.
    pub train: String,
    /// The layers of the folder's model.
    pub source_layers: u64,
    /// Its weights.
    pub source_parameters: u64,
    /// The numbers of the deeper model's layers that are copies.
    pub copies: Vec<u64>,
    /// The weights of the copies.
    pub new_parameters: u64,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are JSON names with their units")]
pub struct StagePlan {
    pub name: String,
    /// As written.
    pub budget_tokens: u64,
    /// The whole sequences of the budget.
    pub sequences: u64,
    /// Their tokens: what the stage trains on.
    pub tokens: u64,
    /// The tokens seen when the stage begins.
    pub starts_at_tokens: u64,
    pub learning_rate: f64,
    /// How it falls at the end of the stage; null where it stays.
    pub decay: Option<DecayPlan>,
    /// The batch that the stage begins with, unless the controller has grown it before.
    pub first_batch_tokens: u64,
    /// With that batch throughout; the last step of a stage may be short.
    pub steps_at_first_batch: u64,
    /// The number of steps where it is known beforehand; null where something measured decides.
    pub steps: Option<u64>,
    /// What the weights' integer parts sum to.
    pub weight_parts_total: u64,
    pub mixture: Vec<SharePlan>,
    /// Other weights from some token of the stage on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixture_changes: Vec<MixtureChangePlan>,
    pub rungs: Vec<RungPlan>,
}

/// How a stage's learning rate falls at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecayPlan {
    /// `linear`, `cosine` or `1-sqrt`.
    pub shape: String,
    /// The tokens seen when it begins to fall.
    pub starts_at_tokens: u64,
    /// The tokens over which it falls.
    pub tokens: u64,
    /// The rate at the stage's end.
    pub final_learning_rate: f64,
}

/// A change of the weights within a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixtureChangePlan {
    /// The tokens of the stage that come before it.
    pub after_tokens: u64,
    /// The share of each source from there on, for display.
    pub weights: BTreeMap<String, f64>,
    /// The shares at the stage's end; null where they stay the same.
    pub weights_end: Option<BTreeMap<String, f64>>,
}

/// What one source gives to one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are JSON names with their units")]
pub struct SharePlan {
    pub source: String,
    /// The share at the stage's beginning, for display.
    pub weight: f64,
    pub weight_parts: u64,
    /// The share at the stage's end; null where it stays the same.
    pub weight_end: Option<f64>,
    pub weight_end_parts: Option<u64>,
    pub tokens: u64,
    /// Within one window of what will be drawn.
    pub windows: u64,
    pub windows_available: Option<u64>,
    /// How often this stage reads the source.
    pub epochs: Option<f64>,
    /// How often it has been read when the stage ends, earlier stages included.
    pub epochs_cumulative: Option<f64>,
    /// The source's `max_epochs`.
    pub cap: Option<u32>,
    /// Whether the cap is exceeded; null where the data is not there. A plan that exceeds a cap is
    /// refused, so it is never true in one.
    pub cap_exceeded: Option<bool>,
}

/// One batch size that a stage may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are JSON names with their units")]
pub struct RungPlan {
    pub batch_tokens: u64,
    pub batch_sequences: u64,
    /// Micro-steps in a step; the last of them may be short.
    pub accumulation_steps: u64,
    pub steps_if_whole_stage: u64,
    /// What detecting a plateau takes at this batch; null in the other modes.
    pub plateau: Option<PlateauPlan>,
}

/// What detecting a plateau takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlateauPlan {
    /// The threshold: fixed for the stage by its first batch, not rescaled when the batch grows.
    /// If an earlier stage has grown the batch that this one begins with, it is as much larger.
    pub nats_per_step: f64,
    /// The standard deviation of one step's loss that is assumed here.
    pub noise_sd_nats: f64,
    /// The steps after which the threshold can be told from zero, at the least.
    pub window_steps: u64,
    /// The tokens of these steps.
    pub window_tokens: u64,
    /// The steps after a growth from this batch in which no other is considered: as set, or what
    /// follows from `window_steps`, at the least like these.
    pub cooldown_steps: u64,
}

/// One source over the whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are JSON names with their units")]
pub struct SourcePlan {
    pub source: String,
    pub edition: PathBuf,
    pub fingerprint: Option<String>,
    pub tokens: u64,
    pub windows: u64,
    pub windows_available: Option<u64>,
    pub epochs: Option<f64>,
    pub cap: Option<u32>,
    pub held_out_windows: Option<u64>,
    /// The held-out windows that one validation reads.
    pub validation_windows: Option<u64>,
}

/// Memory by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are JSON names with their units")]
pub struct MemoryPlan {
    pub weights_bytes: u64,
    pub gradients_bytes: u64,
    pub moments_bytes: u64,
    /// The gradient of one layer or of the head on its way to the sum; the update takes as much.
    pub gradient_in_flight_bytes: u64,
    pub activations: ActivationPlan,
    /// What one chunk of the cross entropy holds; part of the activations.
    pub logits_chunk_bytes: u64,
    /// What the host holds besides while a checkpoint is written in the background; on the processor part
    /// of the peak. A run that has no room for it waits for its checkpoints.
    #[serde(default)]
    pub snapshot_bytes: u64,
    pub peak: PeakPlan,
    /// The budget that `recompute = "auto"` plans with, where it is written.
    pub budget_bytes: Option<u64>,
    /// What an update reads and writes.
    #[serde(default)]
    pub update_bytes: u64,
    /// The operations of a token that recomputing every layer adds.
    #[serde(default)]
    pub recomputed_flops_per_token: u64,
    /// The same run with its state in other number formats, every layer recomputed.
    #[serde(default)]
    pub alternatives: Vec<StateAlternative>,
}

/// A run with its state in some number formats, every layer recomputed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateAlternative {
    /// `training.precision`
    pub precision: String,
    /// `optimizer.moments`
    pub moments: String,
    /// `training.gradient_release`
    pub gradient_release: bool,
    /// Weights and moments.
    pub state_bytes: u64,
    /// Summed gradients.
    pub gradients_bytes: u64,
    /// Everything at the worst moment.
    pub peak_bytes: u64,
    /// The smallest of today's cards that has room for it, in GB as its maker counts; null if none has.
    #[serde(default)]
    pub card_gigabytes: Option<u64>,
    /// What an update reads and writes.
    pub update_bytes: u64,
}

/// Activations at the worst moment, in bytes, for each choice of `recompute`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationPlan {
    /// Every layer keeps its graph.
    pub none: u64,
    /// Every layer is recomputed.
    pub all: u64,
    /// As many layers keep it as the budget allows; null without a budget.
    pub auto: Option<AutoPlan>,
}

/// What `recompute = "auto"` does within the budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoPlan {
    /// The number of layers that keep their graph.
    pub kept_layers: u64,
    /// The activations at the worst moment.
    pub bytes: u64,
}

/// Everything at the worst moment, in bytes, for each choice of `recompute`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeakPlan {
    /// Every layer keeps its graph.
    pub none: u64,
    /// Every layer is recomputed.
    pub all: u64,
    /// Within the budget; null without one.
    pub auto: Option<u64>,
}

/// How long the run takes at a given speed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are JSON names with their units")]
pub struct TimePlan {
    pub tokens_per_second: f64,
    pub seconds: f64,
    pub seconds_per_stage: Vec<f64>,
    /// At the first batch of each stage.
    pub seconds_per_step: Vec<f64>,
    pub model_flops_per_second: Option<f64>,
}

/// When the model is evaluated, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationPlan {
    /// Evaluations of the whole run; fewer where a step passes several multiples of `every_tokens`.
    pub evaluations: u64,
    /// Whether before the first step, and of the base model where it is made deeper.
    pub at_start: bool,
    /// Within a stage every so many tokens; 0 is never.
    pub every_tokens: u64,
    /// Only so many items of each task, or of each of its subsets; null is all.
    pub limit: Option<u64>,
    /// The tasks, in the order in which they are asked.
    pub tasks: Vec<EvaluatedTask>,
    /// Keys and values of the requests that are worked on at once, beside weights and moments; null
    /// without tasks, or where nobody has looked.
    #[serde(default)]
    pub cache_bytes: Option<u64>,
}

/// A task of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluatedTask {
    /// Its file.
    pub file: PathBuf,
    /// Its name; null if the file is missing.
    pub name: Option<String>,
    /// The metric that stands for it.
    pub metric: Option<String>,
    /// Items that are asked; null where they were not looked at, or are missing.
    pub items: Option<u64>,
}

/// Something that the run needs and that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What kind of thing.
    pub kind: MissingKind,
    /// What it is called in the run file.
    pub name: String,
    /// Where it should be.
    pub path: PathBuf,
    /// What to do about it.
    pub remedy: String,
}

/// The kinds of things that can be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingKind {
    /// The model's folder.
    Model,
    /// The tokenizer's file.
    Tokenizer,
    /// A source's edition.
    Edition,
    /// The file of a task.
    Task,
    /// The items of a task.
    Items,
    /// The sandbox for programs that a model wrote.
    Sandbox,
}
