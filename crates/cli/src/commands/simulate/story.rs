//! A simulated run of several stages: the controller beside a batch that never grows.

use rayon::prelude::*;
use serde::Serialize;
use terrace_base::Seed;
use terrace_config::{SimulateConfig, SimulatedStage};
use terrace_policy::batch::{BatchError, BatchPolicy, Decision, DecisionKind};
use terrace_simulate::{SourceOptimum, Stage, StagePoint, Story, tell as simulate};

use super::{model, settings};
use crate::error::CliError;
use crate::table::{Table, grouped};

/// What a run of several stages came to.
#[derive(Serialize)]
pub(super) struct StoryAnswer {
    sources: Vec<String>,
    /// One row for each stage and schedule.
    stages: Vec<StageOutcome>,
    /// What the controller decided with the first seed.
    pub(super) decisions: Vec<Decision>,
    /// Growths in either stage, over all seeds: the median.
    median_growths: Vec<f64>,
    /// Every step with the controller and its first seed, and without growth.
    #[serde(skip)]
    pub(super) walks: [Vec<StagePoint>; 2],
}

#[derive(Serialize)]
struct StageOutcome {
    stage: String,
    schedule: &'static str,
    steps: u64,
    batch_at_end: u64,
    /// The expected loss at the end of the stage, by the stage's mixture.
    loss: f64,
    /// The same by source, in the order of `sources`.
    loss_by_source: Vec<f64>,
}

/// Tells the story with the controller and with a batch that never grows.
pub(super) fn tell(config: &SimulateConfig) -> Result<StoryAnswer, CliError> {
    let grown = story(config, BatchPolicy::Plateau(settings(config)), config.seed);
    let fixed = story(config, BatchPolicy::Fixed, config.seed);
    let (points, decisions) = simulate(&grown).map_err(CliError::input)?;
    let (still, _) = simulate(&fixed).map_err(CliError::input)?;
    let mut stages = Vec::new();
    for (index, stage) in config.stages.iter().enumerate() {
        stages.push(outcome(index, stage, "no-growth", &still));
        stages.push(outcome(index, stage, "plateau", &points));
    }
    Ok(StoryAnswer {
        sources: config.sources.keys().cloned().collect(),
        stages,
        median_growths: growths(config).map_err(CliError::input)?,
        decisions,
        walks: [points, still],
    })
}

fn story(config: &SimulateConfig, policy: BatchPolicy, noise: Seed) -> Story {
    let (model, _) = model(config);
    let dimension = config.quadratic.dimension;
    // The optima are the file's whatever the noise.
    let source = |(name, source): (&String, &terrace_config::SimulatedSource)| {
        SourceOptimum::random(name, source.distance, dimension, config.seed)
    };
    Story {
        model,
        initial_square: config.quadratic.initial_square,
        sources: config.sources.iter().map(source).collect(),
        stages: config.stages.iter().map(|stage| simulated(config, stage)).collect(),
        policy,
        first: config.plateau.first_batch,
        loss_noise: config.plateau.loss_noise,
        seed: noise,
    }
}

fn simulated(config: &SimulateConfig, stage: &SimulatedStage) -> Stage {
    let total: f64 = stage.mixture.values().sum();
    let share = |name: &String| stage.mixture.get(name).copied().unwrap_or(0.0) / total;
    Stage {
        name: stage.name.clone(),
        budget: stage.budget_examples,
        mixture: config.sources.keys().map(share).collect(),
    }
}

/// The median number of growths in each stage, over the seeds.
fn growths(config: &SimulateConfig) -> Result<Vec<f64>, BatchError> {
    let one = |seed: u64| {
        let noise = Seed(config.seed.0.wrapping_add(seed));
        let (_, decisions) =
            simulate(&story(config, BatchPolicy::Plateau(settings(config)), noise))?;
        let in_stage = |index: usize| {
            let grown = decisions.iter().filter(|d| d.kind == DecisionKind::Grow);
            grown.filter(|d| d.stage == index).count() as f64
        };
        Ok((0..config.stages.len()).map(in_stage).collect::<Vec<f64>>())
    };
    let counts: Result<Vec<Vec<f64>>, BatchError> =
        (0..config.plateau.seeds).into_par_iter().map(one).collect();
    let counts = counts?;
    let median = |index: usize| {
        let mut values: Vec<f64> = counts.iter().map(|stages| stages[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok((0..config.stages.len()).map(median).collect())
}

fn outcome(
    index: usize,
    stage: &SimulatedStage,
    schedule: &'static str,
    points: &[StagePoint],
) -> StageOutcome {
    let mut of_stage = points.iter().filter(|point| point.stage == index);
    let steps = of_stage.clone().count() as u64;
    let batch_at_end = of_stage.clone().map(|point| point.batch).max().unwrap_or(0);
    let last = of_stage.next_back().expect("a stage has examples");
    StageOutcome {
        stage: stage.name.clone(),
        schedule,
        steps,
        batch_at_end,
        loss: last.loss,
        loss_by_source: last.sources.clone(),
    }
}

impl StoryAnswer {
    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut heading = vec!["stage", "schedule", "steps", "batch", "loss"];
        heading.extend(self.sources.iter().map(String::as_str));
        let mut table = Table::new(heading);
        for row in &self.stages {
            let mut cells = vec![
                row.stage.clone(),
                row.schedule.to_owned(),
                grouped(row.steps),
                grouped(row.batch_at_end),
                format!("{:.4}", row.loss),
            ];
            cells.extend(row.loss_by_source.iter().map(|loss| format!("{loss:.4}")));
            table.row(cells);
        }
        let mut text = table.render();
        for decision in self.decisions.iter().filter(|d| d.kind == DecisionKind::Grow) {
            let place = &self.stages[2 * decision.stage].stage;
            text.push_str(&format!(
                "{place}: {} -> {} examples after {} examples, {} steps\n",
                decision.from_sequences,
                decision.to_sequences,
                grouped(decision.tokens_seen.0),
                grouped(decision.step),
            ));
        }
        text
    }
}
