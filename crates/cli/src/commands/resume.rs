//! `terrace resume`: a run goes on from its newest valid checkpoint.

use terrace_checkpoint::RunLayout;
use terrace_config::{Loaded, RunConfig, differences};
use terrace_train::{History, StoppedRun};

use super::{revision, training};
use crate::args::ResumeArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::grouped;

/// What may differ from the run so far: it changes no number of the run.
const HARMLESS: [&str; 6] = [
    "checkpoint.",
    "validation.every_tokens",
    "evaluation.",
    "training.memory_budget",
    "device",
    "training.recompute",
];

type Pairs = Vec<(String, String)>;

/// Finds the newest valid checkpoint and trains on.
pub(crate) fn run(args: ResumeArgs, context: &Context) -> Result<ExitCode, CliError> {
    let layout = RunLayout::new(&args.run);
    if !layout.is_run() {
        let path = args.run.display();
        let message =
            format!("{path} is not a run directory: it has no config.toml and checkpoints");
        return Err(CliError::input(message).with_help("`terrace train FILE` starts a run"));
    }
    let (passing, lasting): (Pairs, Pairs) =
        args.training.pairs().into_iter().partition(|(path, _)| is_harmless(path));
    if let (Some((path, _)), false) = (lasting.first(), args.accept_changes) {
        let message = format!("`{path}` cannot be changed when a run is resumed");
        return Err(CliError::input(message).with_help(format!(
            "only these can, since they change no number of the run: {}; --accept-changes takes \
             others for what is still to come",
            HARMLESS.join(", ")
        )));
    }
    heed_changes(&args, &layout, &lasting, context)?;
    // Not config.toml: where --config named another file, that may have been edited unnoticed.
    let history = History::open(&layout).map_err(training::train_error)?;
    let mut loaded = history.in_force_with(&passing).map_err(training::train_error)?;
    // The folder may have been moved since.
    loaded.config.run_directory = args.run.clone();
    let plan = training::plan(&loaded)?;
    training::run(&loaded, &plan, context, args.training.dashboard, |job| go_on(job, context))
}

/// Makes a trainer of a run that has begun, and says from where it goes on.
pub(super) fn go_on<'a>(
    job: terrace_train::Job<'a>,
    context: &Context,
) -> Result<terrace_train::Trainer<'a>, CliError> {
    let (trainer, resumed) = terrace_train::resume(job).map_err(training::train_error)?;
    for skipped in &resumed.skipped {
        context.say(&format!("warning: skipped a damaged checkpoint: {skipped}"));
    }
    context.note(&match resumed.checkpoint {
        Some(path) => {
            format!("resuming at {} tokens from {}", resumed.tokens_seen, path.display())
        }
        None => "no checkpoint was saved yet: the run begins again".to_owned(),
    });
    Ok(trainer)
}

/// Compares what the run has followed with what it is to follow; writes that down if it was
/// accepted, and says what differs if not.
fn heed_changes(
    args: &ResumeArgs,
    layout: &RunLayout,
    lasting: &[(String, String)],
    context: &Context,
) -> Result<(), CliError> {
    let history = History::open(layout).map_err(training::train_error)?;
    let in_force = history.in_force().map_err(training::train_error)?;
    let file = args.config.clone().unwrap_or_else(|| layout.config());
    let mut wanted: Loaded<RunConfig> = terrace_config::load(&file, lasting)?;
    history.settle(&mut wanted.config);
    if differences(&in_force.config, &wanted.config).is_empty() {
        return Ok(());
    }
    let mut run = StoppedRun::open(layout, None).map_err(training::train_error)?;
    let revision = run.review(&wanted.config);
    if revision.changes.is_empty() {
        return Ok(());
    }
    revision::refuse_past(&run, &revision)?;
    let shown = revision::lines(&revision.changes);
    if !args.accept_changes {
        let message = format!(
            "{} says something else than the run has followed so far:{shown}",
            file.display()
        );
        return Err(CliError::input(message).with_help(format!(
            "--accept-changes has the run follow it from {} tokens on; to go on as before, restore \
             what is in {}",
            grouped(run.standing.tokens_seen.0),
            run.history.in_force_path().display()
        )));
    }
    wanted.config = revision.config.clone();
    let plan = run.plan(&wanted).map_err(training::train_error)?;
    run.accept(&wanted, &plan, &revision).map_err(training::train_error)?;
    context.note(&format!("from {} tokens on:{shown}", grouped(run.standing.tokens_seen.0)));
    Ok(())
}

fn is_harmless(path: &str) -> bool {
    HARMLESS.iter().any(|harmless| {
        path == *harmless || (harmless.ends_with('.') && path.starts_with(harmless))
    })
}
