//! The size of the batch: fixed, by schedule, or grown when the loss stops falling.
//!
//! The plateau controller asks one question again and again: *is the loss surely no longer falling
//! by delta nats per step?* Delta is stated by the user as nats per 1 % of the stage and fixed in
//! optimizer time for the whole stage. Losses are adjusted to the stage's mix and gathered into
//! blocks, a line is fitted through a window of block means, and the verdict is that of an
//! equivalence test: noise alone can hold a growth back but not bring one about. The chance that a
//! stage sees any growth while its noise-free loss falls faster than delta is at most alpha,
//! repeated looks included.
//!
//! Two plateaus in a row grow the batch. The answer is then measured against the line from before,
//! and two growths without one end the growing for the stage.

mod block;
mod controller;
mod coupling;
mod decision;
mod guard;
mod loss_average;
mod modes;
mod noise_scale;
mod plateau;
mod prediction;
mod response;
mod settings;
mod spike;
mod statistics;
mod window;

pub use block::SourceLoss;
pub use controller::{BatchController, BatchControllerState, Observation, StageBatch, StageInfo};
pub use coupling::{Beta2Coupling, Coupling, Factors, LearningRateCoupling, WeightDecayCoupling};
pub use decision::{Advice, Decision, DecisionKind, Evidence, Guard, Response, Verdict};
pub use modes::{Advisor, AdvisorPower, Following, Hybrid, Limits, LossLaw, Ramp, SqrtRule};
pub use noise_scale::{MicroBatchGradient, NoiseReading, NoiseSample, NoiseScale};
pub use prediction::{Prediction, PredictionBasis};
pub use settings::{BatchError, BatchPolicy, PlateauSettings};
pub use statistics::window_steps_needed;

#[cfg(test)]
mod tests;
