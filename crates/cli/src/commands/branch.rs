//! `terrace branch`: a child run from a checkpoint of its parent.

use std::path::{Path, PathBuf};

use serde::Serialize;
use terrace_base::{Fingerprint, Tokens};
use terrace_checkpoint::RunLayout;
use terrace_config::{Change, Loaded, RunConfig, RunPlan};
use terrace_train::StoppedRun;

use super::{evaluation, prepare, resume, revision, training};
use crate::args::BranchArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::grouped;

/// A child that was made.
#[derive(Serialize)]
pub(super) struct Child {
    pub(super) run_directory: PathBuf,
    pub(super) parent: PathBuf,
    pub(super) checkpoint: PathBuf,
    pub(super) tokens_seen: Tokens,
    pub(super) state_digest: Fingerprint,
    pub(super) changes: Vec<Change>,
}

/// Makes the child, and trains it unless that was not wanted.
pub(crate) fn run(args: BranchArgs, context: &Context) -> Result<ExitCode, CliError> {
    let overrides = args.training.pairs();
    let parent = StoppedRun::open(&RunLayout::new(&args.run), args.at);
    let parent = parent.map_err(training::train_error)?;
    let mut loaded = terrace_config::load(&args.config, &overrides)?;
    evaluation::refuse_missing(&loaded.config)?;
    for (name, source) in &loaded.config.sources {
        prepare::prepare_source(name, source, context)?;
    }
    let (child, plan) = make(&parent, &mut loaded)?;
    context.note(&format!(
        "{} is a child of {} at {} tokens{}",
        child.run_directory.display(),
        child.parent.display(),
        grouped(child.tokens_seen.0),
        revision::lines(&child.changes)
    ));
    if args.no_train {
        context.answer(&child, || {
            format!("`terrace resume {}` trains it", child.run_directory.display())
        });
        return Ok(ExitCode::Done);
    }
    training::run(&loaded, &plan, context, args.training.dashboard, |job| {
        resume::go_on(job, context)
    })
}

/// Makes the child that `loaded` describes, and brings it to the parent's past.
pub(super) fn make(
    parent: &StoppedRun,
    loaded: &mut Loaded<RunConfig>,
) -> Result<(Child, RunPlan), CliError> {
    let directory = loaded.config.run_directory.clone();
    if is_same(&directory, &parent.layout.root) {
        let message = format!("{} is the parent's own run_directory", directory.display());
        return Err(CliError::input(message).with_help("give the child another run_directory"));
    }
    let revision = parent.review(&loaded.config);
    revision::refuse_past(parent, &revision)?;
    // What was done so far is the parent's, whatever else the file says.
    loaded.config = revision.config.clone();
    let plan = parent.plan(loaded).map_err(training::train_error)?;
    let checkpoint = terrace_train::branch(parent, loaded, &plan, &revision);
    let checkpoint = checkpoint.map_err(training::train_error)?;
    let original = parent.checkpoint.as_ref().expect("it was branched from");
    let child = Child {
        run_directory: directory,
        parent: parent.layout.root.clone(),
        checkpoint,
        tokens_seen: original.tokens_seen(),
        state_digest: original.state_digest(),
        changes: revision.changes,
    };
    Ok((child, plan))
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
