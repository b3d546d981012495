//! Describing and verifying a run: its checkpoints, its stages, its mixture.

use serde::Serialize;
use terrace_base::{Fingerprint, Tokens, format_bytes};
use terrace_checkpoint::{Checkpoint, RunLayout, Store};
use terrace_config::{PlanOptions, RunPlan, gather, resolve};
use terrace_train::{History, Parent, RunState};

use super::mixture::{StageMixture, run_mixture};
use super::{Description, Look, checkpoint, fields};
use crate::commands::training::train_error;
use crate::error::CliError;
use crate::table::{Table, facts, grouped};

/// A run as a program reads it.
#[derive(Serialize)]
struct RunFacts {
    name: String,
    complete: bool,
    tokens_seen: Option<Tokens>,
    total_tokens: u64,
    state_digest: Option<Fingerprint>,
    /// Where its weights came from, if from another run or a folder.
    parent: Option<Parent>,
    checkpoints: Vec<CheckpointLine>,
    stages: Vec<StageMixture>,
    /// Why there is no mixture, where there is none.
    mixture_unknown: Option<String>,
}

/// One checkpoint of the run.
#[derive(Serialize)]
struct CheckpointLine {
    path: String,
    tokens_seen: Option<Tokens>,
    step: Option<u64>,
    stage: Option<String>,
    held_out_loss: Option<f64>,
    bytes: Option<u64>,
    /// Whether it is as it was written; null if that was not looked at.
    valid: Option<bool>,
    problem: Option<String>,
}

/// Describes a run by its newest checkpoint that is whole.
pub(super) fn describe(look: &Look<'_>) -> Result<Description, CliError> {
    let layout = RunLayout::new(look.path);
    let history = History::open(&layout).map_err(train_error)?;
    // What it has followed: config.toml may have been edited since.
    let loaded = history.in_force().map_err(train_error)?;
    let plan = resolve(&loaded, &gather(&loaded.config)?, &PlanOptions::default())?;
    let mut description = Description::default();
    let (lines, newest) = checkpoints(look, &layout, &mut description)?;
    let state = newest.as_ref().map(Checkpoint::state::<RunState>).transpose();
    let state = state.map_err(CliError::input)?;
    let (stages, mixture_unknown) = match &state {
        None => (Vec::new(), Some("no checkpoint was saved yet".to_owned())),
        Some(state) => match run_mixture(&loaded.config, &plan, state) {
            Ok(stages) => (stages, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        },
    };
    let run = RunFacts {
        name: plan.name.clone(),
        complete: state.as_ref().is_some_and(|state| state.progress.stage == plan.stages.len()),
        tokens_seen: newest.as_ref().map(Checkpoint::tokens_seen),
        total_tokens: plan.total_tokens,
        state_digest: newest.as_ref().map(Checkpoint::state_digest),
        parent: history.entries().first().and_then(|entry| entry.parent.clone()),
        checkpoints: lines,
        stages,
        mixture_unknown,
    };
    description.facts = fields(&run);
    description.text = text(&run, &plan);
    Ok(description)
}

/// All checkpoints, oldest first, and the newest that is whole.
fn checkpoints(
    look: &Look<'_>,
    layout: &RunLayout,
    description: &mut Description,
) -> Result<(Vec<CheckpointLine>, Option<Checkpoint>), CliError> {
    let listing = Store::open(layout.checkpoints()).list().map_err(CliError::environment)?;
    let mut lines = Vec::new();
    for corruption in &listing.damaged {
        description.problems.push(checkpoint::problem(corruption));
        lines.push(CheckpointLine::damaged(&corruption.checkpoint, corruption.to_string()));
    }
    let mut newest = None;
    for one in listing.checkpoints {
        match look.verify.then(|| checkpoint::verify(look, &one)) {
            Some(Err(corruption)) => {
                description.problems.push(checkpoint::problem(&corruption));
                lines.push(CheckpointLine::damaged(one.path(), corruption.to_string()));
            }
            verified => {
                lines.push(CheckpointLine::sound(&one, verified.map(|_| true)));
                newest = Some(one);
            }
        }
    }
    // Names are padded: their order is that of age.
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((lines, newest))
}

impl CheckpointLine {
    fn sound(checkpoint: &Checkpoint, valid: Option<bool>) -> Self {
        let facts = checkpoint.facts();
        Self {
            path: checkpoint.path().display().to_string(),
            tokens_seen: Some(facts.tokens_seen),
            step: Some(facts.step),
            stage: Some(facts.stage.clone()),
            held_out_loss: facts.held_out_loss,
            bytes: Some(checkpoint.bytes()),
            valid,
            problem: None,
        }
    }

    fn damaged(path: &std::path::Path, problem: String) -> Self {
        Self {
            path: path.display().to_string(),
            tokens_seen: None,
            step: None,
            stage: None,
            held_out_loss: None,
            bytes: None,
            valid: Some(false),
            problem: Some(problem),
        }
    }

    fn row(&self) -> [String; 7] {
        let dash = || "-".to_owned();
        let name = self.path.rsplit('/').next().unwrap_or(&self.path).to_owned();
        let valid = match self.valid {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not verified",
        };
        [
            name,
            self.tokens_seen.map_or_else(dash, |tokens| grouped(tokens.0)),
            self.step.map_or_else(dash, grouped),
            self.stage.clone().unwrap_or_else(dash),
            self.held_out_loss.map_or_else(dash, |loss| format!("{loss:.4}")),
            self.bytes.map_or_else(dash, format_bytes),
            valid.to_owned(),
        ]
    }
}

fn ancestry(parent: &Parent) -> String {
    let path = parent.path.display();
    parent.tokens_seen.map_or_else(
        || path.to_string(),
        |tokens| format!("{path} at {} tokens", grouped(tokens.0)),
    )
}

fn text(run: &RunFacts, plan: &RunPlan) -> String {
    let seen = run.tokens_seen.map_or(0, |tokens| tokens.0);
    let digest = run.state_digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string());
    let state = if run.complete { "complete" } else { "`terrace resume` continues it" };
    let mut text = facts(&[
        ("name", run.name.clone()),
        ("tokens", format!("{} of {}", grouped(seen), grouped(run.total_tokens))),
        ("stages", plan.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ")),
        ("state", state.to_owned()),
        ("weights from", run.parent.as_ref().map_or_else(|| "-".to_owned(), ancestry)),
        ("state digest", digest),
    ]);
    let heading = ["checkpoint", "tokens", "step", "stage", "held-out nats", "size", "valid"];
    let mut table = Table::new(heading);
    run.checkpoints.iter().for_each(|line| table.row(line.row()));
    if !table.is_empty() {
        text.push_str(&format!("\n{}", table.render()));
    }
    match &run.mixture_unknown {
        Some(reason) => text.push_str(&format!("\nno mixture to show: {reason}\n")),
        None => text.push_str(&format!("\n{}", StageMixture::table(&run.stages).render())),
    }
    text
}
