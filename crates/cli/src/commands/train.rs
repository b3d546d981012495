//! `terrace train`: a run from its file, through all stages.

use std::path::{Path, PathBuf};

use terrace_checkpoint::RunLayout;
use terrace_config::{Loaded, RunConfig};

use super::{evaluation, prepare, training, upscale};
use crate::args::TrainArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// Prepares what is not there, then trains.
pub(crate) fn run(args: TrainArgs, context: &Context) -> Result<ExitCode, CliError> {
    let overrides = args.training.pairs();
    let mut loaded = terrace_config::load(&args.file, &overrides)?;
    evaluation::refuse_missing(&loaded.config)?;
    for (name, source) in &loaded.config.sources {
        prepare::prepare_source(name, source, context)?;
    }
    avoid_complete_run(&mut loaded, context);
    let plan = training::plan(&loaded)?;
    upscale::for_run(&loaded.config, &plan, context)?;
    training::run(&loaded, &plan, context, args.training.dashboard, |job| {
        terrace_train::start(job).map_err(training::train_error)
    })
}

/// A run directory whose run is complete is left as it is: the new run takes the next number.
///
/// One that is not complete is an error, later: it is for `resume`, and a job that is queued again
/// must not begin from nothing.
pub(super) fn avoid_complete_run(loaded: &mut Loaded<RunConfig>, context: &Context) {
    let wanted = loaded.config.run_directory.clone();
    let numbered = (2u32..).map(|number| with_number(&wanted, number));
    let free = std::iter::once(wanted.clone()).chain(numbered).find(|path| !is_complete(path));
    let free = free.expect("there is always another number");
    if free != wanted {
        context.note(&format!(
            "{} holds a complete run; this one goes to {}",
            wanted.display(),
            free.display()
        ));
        loaded.config.run_directory = free;
    }
}

fn with_number(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    path.with_file_name(name)
}

fn is_complete(path: &Path) -> bool {
    let layout = RunLayout::new(path);
    let report = std::fs::read_to_string(layout.report());
    let report = report.ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    layout.is_run() && report.is_some_and(|report| report["complete"] == true)
}
