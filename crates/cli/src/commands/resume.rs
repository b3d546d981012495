//! `terrace resume`: a run goes on from its newest valid checkpoint.

use terrace_checkpoint::RunLayout;

use super::training;
use crate::args::ResumeArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// What may differ from the run so far: it changes no number of the run.
const HARMLESS: [&str; 5] = [
    "checkpoint.",
    "validation.every_tokens",
    "training.memory_budget",
    "device",
    "training.recompute",
];

/// Finds the newest valid checkpoint and trains on.
pub(crate) fn run(args: ResumeArgs, context: &Context) -> Result<ExitCode, CliError> {
    let layout = RunLayout::new(&args.run);
    if !layout.is_run() {
        let path = args.run.display();
        let message =
            format!("{path} is not a run directory: it has no config.toml and checkpoints");
        return Err(CliError::input(message).with_help("`terrace train FILE` starts a run"));
    }
    let mut overrides = args.overrides.pairs();
    if let Some((path, _)) = overrides.iter().find(|(path, _)| !is_harmless(path)) {
        let message = format!("`{path}` cannot be changed when a run is resumed");
        return Err(CliError::input(message).with_help(format!(
            "only these can, since they change no number of the run: {}",
            HARMLESS.join(", ")
        )));
    }
    if let Some(device) = args.device {
        overrides.push(("device".to_owned(), format!("\"{device}\"")));
    }
    let mut loaded = terrace_config::load(&layout.config(), &overrides)?;
    // The folder may have been moved since.
    loaded.config.run_directory = args.run.clone();
    let plan = training::plan(&loaded)?;
    training::run(&loaded, &plan, context, args.dashboard, |job| {
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
    })
}

fn is_harmless(path: &str) -> bool {
    HARMLESS.iter().any(|harmless| {
        path == *harmless || (harmless.ends_with('.') && path.starts_with(harmless))
    })
}
