//! `SimulateConfig`: schedules on a noisy quadratic, the language of `terrace simulate`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use terrace_base::Seed;

use crate::batch::BatchSchedule;

/// A model of training, and the schedules that are held against each other on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulateConfig {
    /// The number that all noise comes from.
    #[serde(default = "default_seed")]
    pub seed: Seed,
    /// The model.
    pub quadratic: QuadraticConfig,
    /// The controller that trains.
    #[serde(default)]
    pub plateau: SimulatedPlateau,
    /// A rule that sees the expected loss.
    #[serde(default)]
    pub relative_drop: RelativeDropConfig,
    /// A rule that sees the exact noise scale.
    #[serde(default)]
    pub gns_sqrt: GnsSqrtConfig,
    /// A schedule that is written down before, in examples.
    #[serde(default)]
    pub declared: DeclaredConfig,
    /// The sources of the stages.
    #[serde(default)]
    pub sources: BTreeMap<String, SimulatedSource>,
    /// A run of several stages.
    #[serde(default)]
    pub stages: Vec<SimulatedStage>,
}

/// The bowl and its noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuadraticConfig {
    /// Its directions.
    pub dimension: usize,
    /// `p` of the curvatures `h_i = i^-p`.
    pub curvature_power: f64,
    /// `q` of the gradient variances `c_i = i^-q`.
    pub noise_power: f64,
    /// The mean square distance from the optimum in each direction at the start.
    #[serde(default = "one")]
    pub initial_square: f64,
    /// The learning rate, which stays.
    pub learning_rate: f64,
    /// How a gradient becomes a step.
    #[serde(default)]
    pub optimizer: SimulatedOptimizer,
    /// The expected losses to reach.
    #[serde(default)]
    pub targets: Vec<f64>,
}

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SimulatedOptimizer {
    /// The learning rate times the gradient.
    #[default]
    Sgd,
    /// The same over the gradient's root mean square norm, as Adam does to a whole tensor.
    NormalizedSgd,
}

/// The plateau controller on noisy losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatedPlateau {
    /// The descent that counts as flat, in nats per 1% of the stage at its first batch.
    pub nats_per_percent: f64,
    /// The chance per stage of a growth while the loss still falls faster.
    pub alpha: f64,
    /// The factor of one growth.
    pub growth_factor: u64,
    /// The first batch, in examples; also that of a batch which never grows.
    pub first_batch: u64,
    /// The largest batch.
    pub maximum_batch: Option<u64>,
    /// Examples of the stage, where there are no `stages`.
    pub budget_examples: u64,
    /// Standard deviation of the loss of one example.
    pub loss_noise: f64,
    /// Decay of the optimizer's second moment, which sets the shortest cooldown.
    pub beta2: f64,
    /// Runs, each with noise of its own.
    pub seeds: u64,
}

/// Grows when the expected loss fell by less than a share of itself over a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelativeDropConfig {
    /// The first batch.
    pub first_batch: u64,
    /// The factor of one growth.
    pub factor: f64,
    /// Steps that are looked back over.
    pub window: usize,
    /// The share of the loss below which a fall is too small.
    pub threshold: f64,
}

/// `B = factor · sqrt(B_simple)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GnsSqrtConfig {
    /// The factor.
    pub factor: f64,
}

/// A schedule that is written down before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeclaredConfig {
    /// `examples_seen:batch` pairs.
    pub schedule: Option<BatchSchedule>,
}

/// A source whose loss is least somewhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedSource {
    /// How far its optimum lies from zero, per direction, in a random direction of its own.
    pub distance: f64,
}

/// A stage of a simulated run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedStage {
    /// Its name.
    pub name: String,
    /// Its examples.
    pub budget_examples: u64,
    /// The weight of each source.
    pub mixture: BTreeMap<String, f64>,
}

impl Default for SimulatedPlateau {
    fn default() -> Self {
        Self {
            nats_per_percent: 0.16,
            alpha: 0.05,
            growth_factor: 2,
            first_batch: 1,
            maximum_batch: None,
            budget_examples: 40_000,
            loss_noise: 0.02,
            beta2: 0.0,
            seeds: 200,
        }
    }
}

impl Default for RelativeDropConfig {
    fn default() -> Self {
        Self { first_batch: 1, factor: 2.0, window: 10, threshold: 0.02 }
    }
}

impl Default for GnsSqrtConfig {
    fn default() -> Self {
        Self { factor: 3.0 }
    }
}

fn default_seed() -> Seed {
    Seed(17)
}

fn one() -> f64 {
    1.0
}
