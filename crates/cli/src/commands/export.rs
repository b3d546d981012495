//! `terrace export`: a run's checkpoint as a Hugging Face folder.

use std::path::{Path, PathBuf};

use serde::Serialize;
use terrace_base::{Dtype, fs};
use terrace_checkpoint::{Checkpoint, RunLayout, Store};
use terrace_config::ModelConfig;
use terrace_model::hf::{self, SaveOptions};
use terrace_train::History;

use crate::args::ExportArgs;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;

#[derive(Serialize)]
struct Answer {
    output: PathBuf,
    checkpoint: PathBuf,
    tokens_seen: u64,
    parameters: u64,
    tokenizer: Option<PathBuf>,
}

/// Writes the newest valid checkpoint, or the one that was named.
pub(crate) fn run(args: &ExportArgs, context: &Context) -> Result<ExitCode, CliError> {
    if args.output.exists() && !args.force {
        let message = format!("{} is there already", args.output.display());
        return Err(CliError::input(message).with_help("--force replaces it"));
    }
    let layout = RunLayout::new(run_directory(&args.path));
    if !layout.is_run() {
        let message = format!("{} is neither a run nor a checkpoint of one", args.path.display());
        return Err(CliError::input(message));
    }
    let history = History::open(&layout).map_err(super::training::train_error)?;
    let config = history.in_force().map_err(super::training::train_error)?.config;
    let checkpoint = find(&args.path, &layout)?;
    let device = device::open(terrace_config::DeviceChoice::Cpu, context)?;
    let model = terrace_train::load_weights(&config, &layout, &checkpoint, &device)
        .map_err(super::training::train_error)?;
    let written = write(args, &model, &config.model).map_err(CliError::environment)?;
    let answer = Answer {
        output: args.output.clone(),
        checkpoint: checkpoint.path().to_owned(),
        tokens_seen: checkpoint.tokens_seen().0,
        parameters: model.architecture.parameter_count(),
        tokenizer: written,
    };
    context.answer(&answer, || {
        format!("{} from {}", answer.output.display(), answer.checkpoint.display())
    });
    Ok(ExitCode::Done)
}

/// A checkpoint lies in `RUN/checkpoints/NAME`.
pub(super) fn run_directory(path: &Path) -> PathBuf {
    if Checkpoint::is_at(path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        absolute.ancestors().nth(2).map_or(absolute.clone(), Path::to_owned)
    } else {
        path.to_owned()
    }
}

pub(super) fn find(path: &Path, layout: &RunLayout) -> Result<Checkpoint, CliError> {
    if Checkpoint::is_at(path) {
        let checkpoint = Checkpoint::open(path).map_err(CliError::gate)?;
        checkpoint.verify().map_err(CliError::gate)?;
        return Ok(checkpoint);
    }
    let newest = Store::open(layout.checkpoints()).newest_valid().map_err(CliError::gate)?;
    Ok(newest.checkpoint)
}

fn write(
    args: &ExportArgs,
    model: &terrace_model::CausalLm,
    config: &ModelConfig,
) -> Result<Option<PathBuf>, Box<dyn std::error::Error + Send + Sync>> {
    let folder = fs::AtomicDirectory::create(&args.output)?;
    let options = SaveOptions { dtype: args.dtype.into(), maximum_shard_bytes: args.shard_size.0 };
    hf::save(model, folder.path(), options)?;
    copy_companions(config, folder.path())?;
    let tokenizer = folder.path().join("tokenizer.json").is_file();
    folder.commit()?;
    Ok(tokenizer.then(|| args.output.join("tokenizer.json")))
}

/// Copies what belongs to the model besides its weights into a folder: the base's files, and the run's
/// tokenizer before the base's, whatever its file is called.
pub(super) fn copy_companions(
    model: &ModelConfig,
    folder: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    hf::copy_companions(&companions(model), folder)?;
    if let Some(file) = &model.tokenizer {
        let bytes = std::fs::read(file)
            .map_err(|error| format!("cannot read the tokenizer {}: {error}", file.display()))?;
        fs::write_atomic(&folder.join("tokenizer.json"), &bytes)?;
    }
    Ok(())
}

fn companions(model: &ModelConfig) -> Vec<PathBuf> {
    let beside = |folder: &Path| hf::companions(folder);
    let mut paths = model.path.as_deref().map(beside).unwrap_or_default();
    if let Some(tokenizer) = &model.tokenizer {
        let own = tokenizer.parent().map(beside).unwrap_or_default();
        paths.retain(|path| own.iter().all(|other| other.file_name() != path.file_name()));
        paths.extend(own);
    }
    paths
}

impl From<crate::args::ExportDtype> for Dtype {
    fn from(dtype: crate::args::ExportDtype) -> Self {
        match dtype {
            crate::args::ExportDtype::F32 => Self::F32,
            crate::args::ExportDtype::Bf16 => Self::Bf16,
        }
    }
}
