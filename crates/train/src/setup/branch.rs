//! A child run from a checkpoint of its parent.

use std::path::{Path, PathBuf};

use terrace_base::fs;
use terrace_checkpoint::{RunLayout, RunLock};
use terrace_config::{Loaded, Revision, RunConfig, RunPlan};

use super::history::{History, Occasion, Parent, write};
use super::refuse_foreign;
use super::stopped::StoppedRun;
use crate::Error;

/// Makes a child in the run directory of `plan`: weights, moments, cursors and controller are those
/// of the parent's checkpoint, whose files are not copied but get a second name.
///
/// The parent is only read. The child then resumes as any run.
///
/// # Errors
///
/// The directory holds a run already, the parent has no checkpoint or a damaged one, or something
/// cannot be written.
pub fn branch(
    parent: &StoppedRun,
    revised: &Loaded<RunConfig>,
    plan: &RunPlan,
    revision: &Revision,
) -> Result<PathBuf, Error> {
    let layout = RunLayout::new(&plan.run_directory);
    if layout.is_run() {
        return Err(Error::RunExists { path: layout.root });
    }
    let Some(checkpoint) = &parent.checkpoint else {
        let there = Vec::new();
        return Err(Error::NoSuchCheckpoint { path: parent.layout.root.clone(), at: 0, there });
    };
    refuse_foreign(&layout, &[layout.history(), layout.upscaled(), layout.initial()])?;
    let lock = RunLock::acquire(&layout)?;
    let store = lock.store()?;
    // Checkpoints without a run file: not what a branch that was killed leaves.
    let is_own = |tokens_seen| tokens_seen == checkpoint.tokens_seen();
    if store.list()?.checkpoints.iter().any(|other| !is_own(other.tokens_seen())) {
        return Err(Error::RunExists { path: layout.root });
    }
    clear(&layout)?;
    let adopted = store.adopt(checkpoint)?;
    let folders = |layout: &RunLayout| [layout.upscaled(), layout.initial()];
    for (from, to) in folders(&parent.layout).into_iter().zip(folders(&layout)) {
        if from.is_dir() {
            fs::link_or_copy_tree(&from, &to).map_err(|source| Error::Log { path: to, source })?;
        }
    }
    let occasion = Occasion {
        event: "branch",
        tokens_seen: parent.standing.tokens_seen,
        changes: revision.changes.clone(),
        parent: Some(Parent {
            path: absolute(&parent.layout.root),
            tokens_seen: Some(checkpoint.tokens_seen()),
            state_digest: Some(checkpoint.state_digest()),
        }),
        decision: None,
    };
    let mut history = History::open(&layout)?;
    let mut config = revised.config.clone();
    history.settle(&mut config);
    history.record(occasion, &config)?;
    let plan = serde_json::to_string_pretty(plan).expect("plans always serialise");
    write(layout.plan(), &plan)?;
    // Last, because it is what makes the directory a run.
    write(layout.config(), &config.to_toml()?)?;
    Ok(adopted.path)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Removes what a branch that was killed has left.
fn clear(layout: &RunLayout) -> Result<(), Error> {
    for path in [layout.history(), layout.upscaled(), layout.initial()] {
        fs::remove_dir_all(&path).map_err(|source| Error::Log { path, source })?;
    }
    Ok(())
}
