//! Describing and verifying one checkpoint.

use serde_json::json;
use terrace_base::format_bytes;
use terrace_checkpoint::{Checkpoint, Corruption, Facts};

use super::{Description, Look, Problem};
use crate::error::CliError;
use crate::table::{facts, grouped};

/// Describes a checkpoint.
pub(super) fn describe(look: &Look<'_>) -> Result<Description, CliError> {
    let checkpoint = match Checkpoint::open(look.path) {
        Ok(checkpoint) => checkpoint,
        Err(corruption) => {
            return Ok(Description { problems: vec![problem(&corruption)], ..Default::default() });
        }
    };
    let problems = match look.verify.then(|| verify(look, &checkpoint)) {
        Some(Err(corruption)) => vec![problem(&corruption)],
        Some(Ok(())) | None => Vec::new(),
    };
    let facts = super::fields(&json!({
        "tokens_seen": checkpoint.tokens_seen(),
        "step": checkpoint.facts().step,
        "stage": checkpoint.facts().stage,
        "held_out_loss": checkpoint.facts().held_out_loss,
        "state_digest": checkpoint.state_digest(),
        "segments": checkpoint.segments(),
        "bytes": checkpoint.bytes(),
        "files": checkpoint.files(),
    }));
    Ok(Description { facts, text: text(&checkpoint), problems })
}

/// Hashes all files of a checkpoint.
pub(super) fn verify(look: &Look<'_>, checkpoint: &Checkpoint) -> Result<(), Corruption> {
    let progress = look.hashing(checkpoint.bytes());
    let result = checkpoint.verify();
    progress.finish();
    result
}

/// The damaged file and what is wrong with it.
pub(super) fn problem(corruption: &Corruption) -> Problem {
    Problem { file: corruption.checkpoint.join(&corruption.file), message: corruption.to_string() }
}

/// The held-out loss for people.
pub(super) fn held_out(facts: &Facts) -> String {
    facts.held_out_loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"))
}

fn text(checkpoint: &Checkpoint) -> String {
    facts(&[
        ("tokens seen", grouped(checkpoint.tokens_seen().0)),
        ("step", grouped(checkpoint.facts().step)),
        ("stage", checkpoint.facts().stage.clone()),
        ("held-out nats", held_out(checkpoint.facts())),
        ("segments", checkpoint.segments().to_string()),
        ("size", format_bytes(checkpoint.bytes())),
        ("state digest", checkpoint.state_digest().to_string()),
    ])
}
