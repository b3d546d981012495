//! Telling what differs between the configuration of a run and another, and asking for consent.

use terrace_config::{Change, Revision};
use terrace_train::StoppedRun;

use crate::error::CliError;
use crate::table::grouped;

/// The changes, one a line.
pub(super) fn lines(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("\n  {change}")).collect()
}

/// Refuses a revision that would touch the past.
pub(super) fn refuse_past(run: &StoppedRun, revision: &Revision) -> Result<(), CliError> {
    let refused: Vec<Change> = revision.refused().cloned().collect();
    if refused.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} is at {} tokens, and this would change what has happened:{}",
        run.layout.root.display(),
        grouped(run.standing.tokens_seen.0),
        lines(&refused)
    );
    Err(CliError::input(message).with_help(format!(
        "what the run has followed is in {}",
        run.history.in_force_path().display()
    )))
}
