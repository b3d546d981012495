//! The record of a decision: what was seen, what was concluded, what was done.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use super::noise_scale::NoiseReading;
use super::prediction::Prediction;

/// What the controller concluded at one moment, with all the numbers that it concluded it from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// The stage, counted from zero.
    pub stage: usize,
    /// What was done.
    pub kind: DecisionKind,
    /// The same in words.
    pub reason: String,
    /// The batch before, in sequences.
    pub from_sequences: u64,
    /// The batch from the next step on, in sequences.
    pub to_sequences: u64,
    /// A descent below this is a plateau, in nats per step; absent where no controller decides.
    pub delta_nats_per_step: Option<f64>,
    /// What the look concluded.
    pub verdict: Option<Verdict>,
    /// The numbers of the look.
    pub evidence: Option<Evidence>,
    /// What stood in the way of a growth.
    pub guard: Option<Guard>,
    /// After a growth that the losses asked for: the steps in which no other is considered.
    pub cooldown_steps: Option<u64>,
    /// After a growth that the losses asked for: the steps in which the test can tell the threshold
    /// from zero at the new batch, at the least.
    #[serde(default)]
    pub window_steps_needed: Option<u64>,
    /// After a growth: what it should do to the loss.
    #[serde(default)]
    pub prediction: Option<Prediction>,
    /// How the loss answered to the last growth.
    pub response: Option<Response>,
    /// The noise scale of the gradient as it was known, where it is measured.
    #[serde(default)]
    pub noise: Option<NoiseReading>,
    /// What the advisor said, in the modes that ask one.
    #[serde(default)]
    pub advice: Option<Advice>,
}

/// What an advisor said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The advised batch; none where nothing is known, or no bound.
    pub batch_tokens: Option<f64>,
    /// The mean loss that it follows from, in nats, where it follows from the loss.
    pub loss_nats: Option<f64>,
}

/// What a decision did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// A stage began, and set the batch and the threshold.
    Stage,
    /// The mixture changed within a stage, or will in one to come.
    Mix,
    /// The batch stays.
    Hold,
    /// The batch grows, or changes by schedule.
    Grow,
    /// The answer to a growth has been judged.
    Response,
    /// Growths no longer help: the batch stays for the rest of the stage.
    Exhausted,
}

/// How the loss moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Surely falling faster than the threshold.
    Improving,
    /// Surely not falling as fast as the threshold.
    Plateau,
    /// Surely rising.
    Rising,
    /// The window does not say.
    Undecided,
}

/// The numbers behind a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The slope of the mixture-adjusted loss; negative when it falls.
    pub slope_nats_per_step: f64,
    /// The slope's standard error, widened for autocorrelation.
    pub standard_error: f64,
    /// `(slope + delta) / standard_error`.
    pub statistic: f64,
    /// What the statistic has to exceed to be a plateau.
    pub threshold: f64,
    /// Whether the window was sharp enough for a test; only then is alpha spent.
    pub tested: bool,
    /// Alpha that this look spent.
    pub alpha_look: f64,
    /// Alpha that the stage has spent, this look included.
    pub alpha_spent: f64,
    /// The look within the stage, counted from one.
    pub look: u64,
    /// Consecutive plateaus, this one included.
    pub confirmations: u32,
    /// Steps in the window.
    pub window_steps: u64,
    /// Blocks in the window.
    pub blocks: usize,
    /// Steps that a block has at least.
    pub block_steps: u64,
    /// Standard deviation of the loss of one step, in nats.
    pub noise_sd: f64,
    /// Lag-1 autocorrelation of the losses of single steps.
    pub autocorrelation: f64,
    /// Lag-1 autocorrelation of block means around the line, at least zero.
    pub block_autocorrelation: f64,
}

/// What can stand in the way of a growth that the verdicts ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Growths no longer help in this stage.
    Exhausted,
    /// The batch is the largest allowed.
    MaximumBatch,
    /// The last growth is too recent.
    TokensBetween,
    /// Too few steps would be left of the stage.
    StepsLeft,
    /// The effective step would exceed what is known to be stable.
    Stability,
    /// The answer to the last growth is not known yet.
    AwaitingResponse,
    /// The advised batch is smaller.
    Advice,
    /// The advisor has nothing to go by yet.
    AdviceUnknown,
}

/// How the loss answered to a growth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// What the line before the growth predicts, in nats.
    pub expected: f64,
    /// What was seen, in nats.
    pub observed: f64,
    /// `expected − observed`: by how much the loss lies lower than without an answer.
    #[serde(default)]
    pub drop: f64,
    /// By how much it was predicted to.
    #[serde(default)]
    pub predicted_drop: Option<f64>,
    /// The error of the prediction and of what was seen, together.
    pub standard_error: f64,
    /// `(expected − observed) / standard_error`.
    pub statistic: f64,
    /// What the statistic has to exceed.
    pub threshold: f64,
    /// Whether the loss fell below the prediction.
    pub responded: bool,
    /// Growths without response in a row, this one included.
    pub unresponsive_growths: u32,
}
