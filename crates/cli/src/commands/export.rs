//! `terrace export`: a run's checkpoint as a Hugging Face folder.

use std::path::{Path, PathBuf};

use serde::Serialize;
use terrace_base::{Dtype, fs};
use terrace_checkpoint::{Checkpoint, RunLayout, Store};
use terrace_config::load;
use terrace_model::hf::{self, SaveOptions};

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
    let config = load(&layout.config(), &[])?.config;
    let checkpoint = find(&args.path, &layout)?;
    let device = device::open(terrace_config::DeviceChoice::Cpu, context)?;
    let model = terrace_train::load_weights(&config, &layout, &checkpoint, &device)
        .map_err(super::training::train_error)?;
    let tokenizer = config.model.tokenizer_path();
    let written = write(args, &model, tokenizer.as_deref()).map_err(CliError::environment)?;
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
fn run_directory(path: &Path) -> PathBuf {
    if Checkpoint::is_at(path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        absolute.ancestors().nth(2).map_or(absolute.clone(), Path::to_owned)
    } else {
        path.to_owned()
    }
}

fn find(path: &Path, layout: &RunLayout) -> Result<Checkpoint, CliError> {
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
    tokenizer: Option<&Path>,
) -> Result<Option<PathBuf>, Box<dyn std::error::Error + Send + Sync>> {
    let folder = fs::AtomicDirectory::create(&args.output)?;
    let options = SaveOptions { dtype: args.dtype.into(), ..SaveOptions::default() };
    hf::save(model, folder.path(), options)?;
    let mut copied = None;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let Some(from) = tokenizer.map(|path| path.with_file_name(name)) else { continue };
        if from.is_file() {
            fs::write_atomic(&folder.path().join(name), &std::fs::read(&from)?)?;
            copied = copied.or(Some(args.output.join(name)));
        }
    }
    folder.commit()?;
    Ok(copied)
}

impl From<crate::args::ExportDtype> for Dtype {
    fn from(dtype: crate::args::ExportDtype) -> Self {
        match dtype {
            crate::args::ExportDtype::F32 => Self::F32,
            crate::args::ExportDtype::Bf16 => Self::Bf16,
        }
    }
}
