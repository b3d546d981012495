//! The TOML language of a run: [`RunConfig`] as written, [`RunPlan`] with every derived number.
//!
//! [`load`] reads a file (with what it `extends` and what `--set` overrides) and remembers where
//! each value came from; [`gather`] looks at the model folder and the editions; [`resolve`] turns
//! both into a plan without touching anything. [`load_prepare`] reads the second language, that of
//! `terrace prepare`, in the same way, and [`load_task`] that of an evaluation task.

mod agree;
mod batch;
mod bytes;
mod caps;
mod check;
mod de;
mod decay;
mod decimal;
mod device;
mod error;
mod explain;
mod facts;
mod fault;
mod hugging_face;
mod load;
mod memory;
mod mixture;
mod mixture_file;
mod model;
mod node;
mod path;
mod plan;
mod plateau;
mod prepare;
mod quota;
mod render;
mod resolve;
mod revision;
mod run;
mod segments;
mod shapes;
mod simulate;
mod stages;
mod task;
mod warnings;

pub use batch::{
    AdvisorChoice, Batch, BatchMode, BatchSchedule, LossLawConfig, Plateau, ScheduleEntry,
    StageBatch,
};
pub use bytes::{Bytes, ParseBytesError};
pub use decay::RateDecay;
pub use decimal::{Decimal, ParseDecimalError};
pub use device::DeviceChoice;
pub use error::{Diagnostic, Error};
pub use explain::{Explanation, Provenance, render_explanation};
pub use facts::{EditionFacts, Facts, HeldOutFacts, TaskFacts, gather};
pub use hugging_face::ArchitectureError;
pub use load::{Loaded, load, load_controller, load_prepare, load_simulate, load_task};
pub use memory::{
    LayerForm, LayerGraph, MLP_TILE_ROWS, MemoryModel, MicroStepShape, StateFormat, Term,
};
pub use mixture::{Mixture, MixtureWeights, WeightsError};
pub use mixture_file::{MixtureFile, load_mixture};
pub use model::{Architecture, ModelConfig, Upscale, UpscaleTraining};
pub use plan::{
    ActivationPlan, AutoPlan, DecayPlan, EvaluatedTask, EvaluationPlan, MemoryPlan, Missing,
    MissingKind, MixtureChangePlan, ModelPlan, PeakPlan, PlateauPlan, RunPlan, RungPlan, SharePlan,
    SourcePlan, StagePlan, TimePlan, UpscalePlan,
};
pub use plateau::{cooldown_steps, window_steps};
pub use prepare::{
    ContaminationAction, ContaminationConfig, Format, Input, Normalization, Packing, PrepareConfig,
};
pub use render::render;
pub use resolve::{PlanOptions, resolve};
pub use revision::{Change, Effect, MixFrom, Revision, Standing, differences, remix, revise};
pub use run::{
    CheckpointConfig, Evaluation, GradientClipping, MomentFormat, Optimizer, Precision, Recompute,
    RunConfig, Source, Stage, Training, Validation,
};
pub use segments::{MixtureChange, StageSegment};
pub use simulate::{
    DeclaredConfig, GnsSqrtConfig, QuadraticConfig, RelativeDropConfig, SimulateConfig,
    SimulatedOptimizer, SimulatedPlateau, SimulatedSource, SimulatedStage,
};
pub use task::{
    CodeTask, Comparison, ExampleOrder, Fewshot, Generation, MatchChoice, Normalize, TaskConfig,
    TaskData, TaskFilter, TaskForm, TaskGroup,
};
