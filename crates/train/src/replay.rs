//! Another controller over the losses of a recorded run.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use terrace_base::Tokens;
use terrace_checkpoint::RunLayout;
use terrace_config::{RunConfig, RunPlan};
use terrace_policy::batch::{BatchController, Decision, DecisionKind, Observation, SourceLoss};

use crate::setup::{controller_of, stage_specs};
use crate::trainer::{DECAYS, StageSpec, reason, stage_info};
use crate::{BatchGrowth, Error, StepRecord};

/// What a controller would have decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// The run whose losses were read.
    pub run_directory: PathBuf,
    /// Whether the controller was told the same as the run's own, all along: the run was neither begun
    /// as a branch nor steered, and went back for no spike.
    pub same_controller: bool,
    /// The steps that were read.
    pub steps: u64,
    /// Tokens seen at the last of them.
    pub tokens_seen: Tokens,
    /// Where the run's batch changed.
    pub recorded_growths: Vec<BatchGrowth>,
    /// Where this controller would have grown it.
    pub growths: Vec<BatchGrowth>,
    /// Every decision of this controller, in order.
    pub decisions: Vec<Decision>,
}

/// Reads the steps that a run has on record, in order.
///
/// # Errors
///
/// The file cannot be read, or a line is not a step. A last line without an end is what a killed
/// process was writing, and is left out.
pub fn read_steps(layout: &RunLayout) -> Result<Vec<StepRecord>, Error> {
    let path = layout.metrics();
    let text =
        fs::read_to_string(&path).map_err(|source| Error::Log { path: path.clone(), source })?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().enumerate().map(|(index, line)| step(&path, index + 1, line)).collect()
}

fn step(path: &Path, line: usize, text: &str) -> Result<StepRecord, Error> {
    serde_json::from_str(text).map_err(|error| {
        let reason = format!("line {line} is not a step as this version records it: {error}");
        Error::Foreign { path: path.to_owned(), reason }
    })
}

/// Runs the controller that `config` describes over recorded steps.
///
/// The losses stay as they were recorded: they do not answer to a growth that the run did not have,
/// and they answer to the ones that it had. So where the controller is another one, its first growth
/// is what it would have done; each later one is what it would have done had the loss gone on as
/// recorded, and the answers to its growths end nothing. The same controller decides the same again.
///
/// Where the run `was_steered`, the controller is told what holds at its end, and that all along.
///
/// # Errors
///
/// The configuration makes no controller, or a step is of a stage or a source that it does not have.
pub fn replay(
    recorded: &RunConfig,
    config: &RunConfig,
    plan: &RunPlan,
    steps: &[StepRecord],
    was_steered: bool,
) -> Result<Replay, Error> {
    let names: Vec<String> = config.sources.keys().cloned().collect();
    let stages = stage_specs(config, plan, &names, None)?;
    let same_controller =
        !was_steered && config.batch == recorded.batch && config.optimizer == recorded.optimizer;
    let mut policy = config.batch_policy();
    if let (false, Some(settings)) = (same_controller, policy.plateau_mut()) {
        settings.unresponsive_growths = u32::MAX;
    }
    let mut player = Player {
        length: config.training.sequence_length as u64,
        warmup: config.optimizer.warmup_tokens,
        controller: controller_of(config, policy)?,
        names,
        stage: None,
        decisions: Vec::new(),
    };
    for (index, step) in (1..).zip(steps) {
        player.play(&stages, index, step)?;
    }
    Ok(Replay {
        run_directory: plan.run_directory.clone(),
        same_controller,
        steps: steps.len() as u64,
        tokens_seen: steps.last().map(|step| step.tokens_seen).unwrap_or_default(),
        recorded_growths: recorded_growths(steps),
        growths: player.growths(),
        decisions: player.decisions,
    })
}

struct Player {
    length: u64,
    warmup: Tokens,
    controller: BatchController,
    names: Vec<String>,
    stage: Option<usize>,
    decisions: Vec<Decision>,
}

impl Player {
    fn play(&mut self, stages: &[StageSpec], index: u64, step: &StepRecord) -> Result<(), Error> {
        let unknown = |what: &str, name: &str| Error::Foreign {
            path: PathBuf::from("metrics.jsonl"),
            reason: format!(
                "step {} is of {what} `{name}`, which the run does not have",
                step.step
            ),
        };
        let place = stages.iter().position(|stage| stage.name == step.stage);
        let place = place.ok_or_else(|| unknown("stage", &step.stage))?;
        if self.stage != Some(place) {
            self.stage = Some(place);
            let info = stage_info(place, &stages[place], self.warmup);
            self.decisions.push(self.controller.on_stage_start(info));
        }
        let began = Tokens(step.tokens_seen.0 - step.batch_tokens.0);
        let weights = stages[place].weights_at(began);
        if self.controller.reference_weights() != Some(weights) {
            self.decisions.push(self.controller.on_mix_change(weights, began));
        }
        let mut losses = vec![SourceLoss::default(); self.names.len()];
        for (name, mean) in &step.nats_per_source {
            let source = self.names.iter().position(|source| source == name);
            let source = source.ok_or_else(|| unknown("source", name))?;
            let targets = step.target_tokens_per_source.get(name).copied().unwrap_or(0);
            losses[source] = SourceLoss { nats: mean * targets as f64, targets };
        }
        let observation = Observation {
            step: index,
            tokens_seen: step.tokens_seen,
            sources: &losses,
            // The rate on record has followed the batch that the run had.
            learning_rate: stages[place].learning_rate.at(began, step.batch_tokens),
            noise: step.noise_sample,
            is_bad: false,
            // As when it was trained: a falling rate says nothing about the batch.
            is_spike: step.is_spike || stages[place].learning_rate.decays(began),
        };
        self.decisions.extend(self.controller.observe(observation));
        let rate = &stages[place].learning_rate;
        if rate.decays(step.tokens_seen) && !rate.decays(began) {
            let decision = self.controller.rebaseline(step.tokens_seen, DECAYS.to_owned());
            self.decisions.push(decision);
        }
        Ok(())
    }

    fn growths(&self) -> Vec<BatchGrowth> {
        let grown = self.decisions.iter().filter(|d| d.kind == DecisionKind::Grow);
        grown.map(|decision| BatchGrowth::of(decision, self.length, reason(decision))).collect()
    }
}

/// The changes of the batch between recorded steps. The last step of a stage may be cut short by its
/// end, so that a smaller batch says nothing.
fn recorded_growths(steps: &[StepRecord]) -> Vec<BatchGrowth> {
    let mut growths = Vec::new();
    let mut largest = steps.first().map(|step| step.batch_tokens).unwrap_or_default();
    for pair in steps.windows(2) {
        let now = pair[1].batch_tokens;
        if now > largest {
            growths.push(BatchGrowth {
                tokens_seen: pair[0].tokens_seen,
                from_tokens: largest,
                to_tokens: now,
                reason: "recorded".to_owned(),
            });
            largest = now;
        }
    }
    growths
}
