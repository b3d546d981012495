//! `terrace init`: a new run from weights alone.

use std::path::{Path, PathBuf};

use terrace_base::fs;
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_config::{DeviceChoice, Loaded, RunConfig};
use terrace_model::hf::{self, SaveOptions};
use terrace_train::{History, Parent};

use super::{evaluation, export, prepare, train, training, upscale};
use crate::args::InitArgs;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;

/// The size of the files of a run's initial weights.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Puts the weights where the run file says the model is, and trains as `train` does.
pub(crate) fn run(args: InitArgs, context: &Context) -> Result<ExitCode, CliError> {
    let mut overrides = args.training.pairs();
    if let Some(weights) = &args.weights {
        let text = serde_json::to_string(&weights.display().to_string());
        overrides.push(("model.path".to_owned(), text.expect("text always serialises")));
    }
    let mut loaded = terrace_config::load(&args.config, &overrides)?;
    evaluation::refuse_missing(&loaded.config)?;
    for (name, source) in &loaded.config.sources {
        prepare::prepare_source(name, source, context)?;
    }
    train::avoid_complete_run(&mut loaded, context);
    let parent = settle(&mut loaded, context)?;
    let plan = training::plan(&loaded)?;
    upscale::for_run(&loaded.config, &plan, context)?;
    training::run(&loaded, &plan, context, args.training.dashboard, |job| {
        terrace_train::start_from(job, Some(parent)).map_err(training::train_error)
    })
}

/// Writes a run's weights as the folder that the new run begins with; a folder of weights is used
/// where it is.
fn settle(loaded: &mut Loaded<RunConfig>, context: &Context) -> Result<Parent, CliError> {
    let Some(path) = loaded.config.model.path.clone() else {
        let message = "the run file names no weights to begin with";
        return Err(CliError::input(message).with_help(
            "`terrace init WEIGHTS --config FILE` takes a run, a checkpoint or a Hugging Face folder",
        ));
    };
    let from = RunLayout::new(export::run_directory(&path));
    if !from.is_run() {
        return Ok(Parent { path, tokens_seen: None, state_digest: None });
    }
    let layout = RunLayout::new(&loaded.config.run_directory);
    if layout.is_run() {
        let error = terrace_train::Error::RunExists { path: layout.root };
        return Err(training::train_error(error));
    }
    let checkpoint = export::find(&path, &from)?;
    context.note(&format!("the weights are those of {}", checkpoint.path().display()));
    write_weights(&from, &checkpoint, &layout.initial(), context)?;
    loaded.config.model.path = Some(absolute(&layout.initial()));
    Ok(Parent {
        path: absolute(&from.root),
        tokens_seen: Some(checkpoint.tokens_seen()),
        state_digest: Some(checkpoint.state_digest()),
    })
}

fn write_weights(
    from: &RunLayout,
    checkpoint: &Checkpoint,
    folder: &Path,
    context: &Context,
) -> Result<(), CliError> {
    let history = History::open(from).map_err(training::train_error)?;
    let config = history.in_force().map_err(training::train_error)?.config;
    let device = device::open(DeviceChoice::Cpu, context)?;
    let model = terrace_train::load_weights(&config, from, checkpoint, &device)
        .map_err(training::train_error)?;
    let unwritable = |error: std::io::Error| CliError::unwritable(folder, error);
    let output = fs::AtomicDirectory::create(folder).map_err(unwritable)?;
    let options = SaveOptions { dtype: terrace_base::Dtype::F32, maximum_shard_bytes: SHARD_BYTES };
    hf::save(&model, output.path(), options)?;
    export::copy_companions(&config.model, output.path()).map_err(CliError::environment)?;
    output.commit().map_err(unwritable)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
