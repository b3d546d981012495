//! The step loop: stages, gradients, clipping, validation, metrics, exact resume.
//!
//! [`Trainer`] is the page to read first. What it decides comes from `policy`, what it computes
//! from [`engine`], what it keeps from `checkpoint`; it tells an [`Observer`] what happens and
//! prints nothing.

pub mod engine;
mod error;
mod evaluate;
mod loader;
mod logs;
mod memory;
mod mixing;
mod observe;
mod optimizer;
mod prefetch;
mod record;
mod replay;
mod report;
mod restore;
mod setup;
mod state;
mod step;
mod trainer;
mod twins;
mod validate;

pub use engine::{Engine, EngineSettings, GradientAccumulator, GradientSink, Trained};
pub use error::Error;
pub use evaluate::{
    Asked, EvaluationRecord, Evaluator, Occasion, Scores, SourceScore, TaskScore, read_evaluations,
};
pub use loader::{Loader, StepBatch};
pub use memory::kept_layers;
pub use observe::{Event, Observer, StopFlag};
pub use optimizer::{Optimizer, OptimizerSettings, Update};
pub use record::{
    BadStep, DocumentName, RewindRecord, SpikeStep, SpikeWindow, StepRecord, WindowName,
};
pub use replay::{Replay, read_steps, replay};
pub use report::{BatchGrowth, EvaluationReport, StageReport, TrainReport, UpscaleReport};
pub use setup::{
    History, HistoryEntry, Job, Mixed, Parent, Resumed, StoppedRun, branch, load_weights,
    mixture_schedule, moment_format, resume, start, start_from,
};
pub use state::{BASE, BEFORE, HeldOut, Progress, RunState};
pub use step::{Applied, Clipping, StepOutcome, StepSettings, judged_step, train_step};
pub use trainer::Trainer;
pub use twins::{TwinCosine, twin_cosines};
pub use validate::{HeldOutLosses, HeldOutSets, SourceLoss};
