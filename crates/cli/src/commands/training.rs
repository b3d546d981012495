//! What `train` and `resume` share: signals, progress, the dashboard, the closing table.

mod dashboard;
pub(crate) mod signals;
mod summary;
mod watch;

use terrace_config::{Facts, Loaded, PlanOptions, RunConfig, RunPlan};
use terrace_train::{Evaluator, Job, StopFlag, TrainReport, Trainer};

use super::evaluation::{self, TaskEvaluator};
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::machine;
use crate::table::grouped;

use self::dashboard::{Dashboard, Screen};
pub(crate) use self::watch::Watch;

/// Resolves a run file against what is there.
pub(crate) fn plan(loaded: &Loaded<RunConfig>) -> Result<RunPlan, CliError> {
    let facts: Facts = terrace_config::gather(&loaded.config)?;
    let mut plan = terrace_config::resolve(loaded, &facts, &PlanOptions::default())?;
    evaluation::look(&loaded.config, facts.architecture.as_ref(), &mut plan)?;
    Ok(plan)
}

/// Opens the device, arms the signals, and hands a job to `prepare`, which makes a trainer of it;
/// then trains and tells the outcome.
pub(crate) fn run(
    loaded: &Loaded<RunConfig>,
    plan: &RunPlan,
    context: &Context,
    dashboard: bool,
    prepare: impl for<'a> FnOnce(Job<'a>) -> Result<Trainer<'a>, CliError>,
) -> Result<ExitCode, CliError> {
    let mut evaluator = TaskEvaluator::open(&loaded.config, context)?;
    evaluation::refuse_what_does_not_fit(loaded.config.device, plan, context)?;
    let screen = dashboard.then(|| screen(plan, context)).flatten();
    let choice = loaded.config.device;
    let device = device::open(choice, context)?;
    announce(plan, context);
    let stop = StopFlag::default();
    let armed = match &screen {
        Some(screen) => signals::arm_for(screen, &stop),
        None => signals::arm(&stop),
    };
    armed.map_err(CliError::environment)?;
    let dashboard = screen.map(|screen| Dashboard::new(plan, screen, &stop));
    let mut watch = Watch::new(context, plan, dashboard);
    let job = Job {
        loaded,
        plan,
        device,
        // A fifth is left to the system, the allocator and the reading of data.
        memory_budget: memory_budget(choice, context),
        peak_flops: device::peak_flops(choice, &context.environment),
        host_memory: Some(host_memory()),
        stop,
        observer: &mut watch,
        evaluator: evaluator.as_mut().map(|evaluator| evaluator as &mut dyn Evaluator),
    };
    let outcome = prepare(job)?.run();
    watch.finish();
    let report: TrainReport = outcome.map_err(train_error)?;
    if !context.is_quiet() {
        context.say(&summary::render(&report));
    }
    if context.json {
        context.data(&report);
    }
    Ok(ExitCode::Done)
}

/// The terminal for the dashboard, or a line that says why there is none.
fn screen(plan: &RunPlan, context: &Context) -> Option<Screen> {
    if let Some(obstacle) = dashboard::obstacle(context) {
        context.say(&format!("warning: --dashboard is off: {obstacle}"));
        return None;
    }
    Some(Screen::new(context, plan))
}

/// The host's memory that a run may plan with; a fifth of what is free is left to others.
pub(crate) fn host_memory() -> u64 {
    machine::memory().available_bytes / 5 * 4
}

pub(crate) fn memory_budget(
    choice: terrace_config::DeviceChoice,
    context: &Context,
) -> Option<u64> {
    let total = match choice {
        // What others use of the processor's memory is not ours to plan with.
        terrace_config::DeviceChoice::Cpu => Some(machine::memory().available_bytes),
        other => device::memory(other, &context.environment),
    };
    total.map(|bytes| bytes / 5 * 4)
}

fn announce(plan: &RunPlan, context: &Context) {
    let Some(model) = &plan.model else { return };
    context.note(&format!(
        "{}: {} parameters, {} stages, {} tokens, on {}; run directory {}",
        plan.name,
        grouped(model.parameters),
        plan.stages.len(),
        grouped(plan.total_tokens),
        plan.device,
        plan.run_directory.display(),
    ));
    for warning in &plan.warnings {
        context.note(&format!("warning: {warning}"));
    }
}

/// Sorts an error of a run by who can do something about it.
pub(crate) fn train_error(error: terrace_train::Error) -> CliError {
    use terrace_train::Error;
    match error {
        Error::Config(error) => error.into(),
        Error::Log { .. } | Error::Thread { .. } => CliError::environment(error),
        Error::Checkpoint(error) => CliError::environment(error),
        Error::Evaluation { .. } => CliError::environment(error),
        Error::BadSteps { .. } | Error::Spikes { .. } | Error::Lost { .. } => CliError::gate(error),
        other => CliError::input(other),
    }
}
