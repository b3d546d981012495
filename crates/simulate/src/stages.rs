//! A run of several stages on the model: every source has an optimum of its own, and a stage trains
//! towards the mean of them by its mixture.

use serde::{Deserialize, Serialize};
use terrace_base::{Seed, SeedStream, Tokens};
use terrace_policy::batch::{
    BatchController, BatchError, BatchPolicy, Decision, Observation, SourceLoss, StageBatch,
    StageInfo,
};

use crate::quadratic::{Position, Quadratic};

/// A source of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceOptimum {
    /// Its name.
    pub name: String,
    /// Where its loss is least, in every direction.
    pub optimum: Vec<f64>,
}

impl SourceOptimum {
    /// A source whose optimum lies in a random direction, at `distance` from zero per dimension.
    #[must_use]
    pub fn random(name: &str, distance: f64, dimension: usize, seed: Seed) -> Self {
        let stream = seed.stream(&format!("optimum/{name}"));
        let optimum = (0..dimension as u64).map(|i| distance * stream.normal(i)).collect();
        Self { name: name.to_owned(), optimum }
    }
}

/// A phase with its own mixture and budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its examples.
    pub budget: u64,
    /// The share of each source; they sum to one.
    pub mixture: Vec<f64>,
}

/// A run of several stages.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The model; its noise and curvature are those of every source.
    pub model: Quadratic,
    /// The mean square distance from the first stage's optimum at the start, per direction.
    pub initial_square: f64,
    /// The sources.
    pub sources: Vec<SourceOptimum>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// What decides about the batch.
    pub policy: BatchPolicy,
    /// The first batch.
    pub first: u64,
    /// Standard deviation of the loss of one example.
    pub loss_noise: f64,
    /// All randomness comes from it.
    pub seed: Seed,
}

/// One step of a story.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StagePoint {
    /// The stage, counted from zero.
    pub stage: usize,
    /// Examples so far, this step's included.
    pub examples: u64,
    /// The batch of the step.
    pub batch: u64,
    /// The expected loss after the step, by the stage's mixture.
    pub loss: f64,
    /// The expected loss of each source.
    pub sources: Vec<f64>,
}

/// Trains all stages; gives every step and every decision.
///
/// # Errors
///
/// The policy makes no sense.
pub fn tell(story: &Story) -> Result<(Vec<StagePoint>, Vec<Decision>), BatchError> {
    let dimension = story.model.curvature.len();
    let mut teller = Teller {
        story,
        controller: BatchController::new(story.policy.clone(), 1, story.first)?,
        at: Position::start(dimension, story.initial_square),
        centre: vec![0.0; dimension],
        noise: story.seed.stream("loss"),
        step: 0,
        examples: 0,
        points: Vec::new(),
        decisions: Vec::new(),
    };
    for (index, stage) in story.stages.iter().enumerate() {
        teller.enter(index, stage);
        let end = teller.examples + stage.budget;
        while teller.examples < end {
            teller.step(index, stage, end);
        }
    }
    Ok((teller.points, teller.decisions))
}

struct Teller<'a> {
    story: &'a Story,
    controller: BatchController,
    /// Seen from the current stage's optimum.
    at: Position,
    centre: Vec<f64>,
    noise: SeedStream,
    step: u64,
    examples: u64,
    points: Vec<StagePoint>,
    decisions: Vec<Decision>,
}

impl Teller<'_> {
    fn enter(&mut self, index: usize, stage: &Stage) {
        let centre: Vec<f64> = (0..self.centre.len())
            .map(|i| {
                let parts = self.story.sources.iter().zip(&stage.mixture);
                parts.map(|(source, share)| share * source.optimum[i]).sum()
            })
            .collect();
        // The first stage's optimum is what the start is told from.
        if index > 0 {
            self.at = self.at.seen_from(&difference(&centre, &self.centre));
        }
        self.centre = centre;
        self.decisions.push(self.controller.on_stage_start(StageInfo {
            index,
            start_tokens: Tokens(self.examples),
            budget_tokens: Tokens(stage.budget),
            batch: StageBatch::Carry,
            settle_tokens: Tokens(stage.budget / 100),
            reference_weights: stage.mixture.clone(),

            trained_parameters: None,
        }));
    }

    fn step(&mut self, index: usize, stage: &Stage, end: u64) {
        let batch = self.controller.batch_sequences().min(end - self.examples);
        let before = self.source_losses();
        self.story.model.step(&mut self.at, batch as f64);
        self.examples += batch;
        self.step += 1;
        let observed = self.observed(stage, batch, &before);
        self.decisions.extend(self.controller.observe(Observation {
            step: self.step,
            tokens_seen: Tokens(self.examples),
            sources: &observed,
            learning_rate: self.story.model.learning_rate,
            noise: None,
            is_bad: false,
            is_spike: false,
        }));
        let sources = self.source_losses();
        let loss = sources.iter().zip(&stage.mixture).map(|(loss, share)| loss * share).sum();
        self.points.push(StagePoint {
            stage: index,
            examples: self.examples,
            batch,
            loss,
            sources,
        });
    }

    fn source_losses(&self) -> Vec<f64> {
        let seen = |source: &crate::SourceOptimum| {
            let from = self.at.seen_from(&difference(&source.optimum, &self.centre));
            self.story.model.loss(&from)
        };
        self.story.sources.iter().map(seen).collect()
    }

    /// What the controller is told: each source with its share of the batch, and its noise.
    fn observed(&self, stage: &Stage, batch: u64, losses: &[f64]) -> Vec<SourceLoss> {
        let count = losses.len() as u64;
        let parts = (0..count).zip(losses).zip(&stage.mixture);
        parts
            .map(|((source, loss), share)| {
                let examples = batch as f64 * share;
                // Whole targets, fine enough that no share is lost.
                let targets = (1000.0 * examples).round() as u64;
                let sd = self.story.loss_noise / examples.max(f64::MIN_POSITIVE).sqrt();
                let noise = sd * self.noise.normal(self.step * count + source);
                let mean = if targets == 0 { 0.0 } else { loss + noise };
                SourceLoss { nats: mean * targets as f64, targets }
            })
            .collect()
    }
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    use terrace_policy::batch::{DecisionKind, PlateauSettings};

    use super::*;
    use crate::quadratic::StepRule;

    fn story(policy: BatchPolicy) -> Story {
        let seed = Seed(5);
        let source = |name: &str, distance| SourceOptimum::random(name, distance, 20, seed);
        let stage = |name: &str, mixture: [f64; 2]| Stage {
            name: name.to_owned(),
            budget: 20_000,
            mixture: mixture.to_vec(),
        };
        Story {
            model: Quadratic {
                rule: StepRule::NormalizedSgd,
                ..Quadratic::power_law(20, 1.0, 1.0, 0.05)
            },
            initial_square: 1.0,
            sources: vec![source("text", 0.3), source("code", 0.6)],
            stages: vec![stage("one", [0.9, 0.1]), stage("two", [0.3, 0.7])],
            policy,
            first: 4,
            loss_noise: 0.02,
            seed,
        }
    }

    #[test]
    fn the_second_stage_moves_towards_the_source_it_favours() {
        let (points, decisions) = tell(&story(BatchPolicy::Fixed)).unwrap();
        assert_eq!(points.len(), 10_000);
        let (first, last) = (&points[4_999], &points[9_999]);
        assert_eq!((first.stage, last.stage), (0, 1));
        assert!(last.sources[1] < first.sources[1], "code gets better");
        assert!(last.sources[0] > first.sources[0], "text gets worse");
        assert_eq!(decisions.len(), 2, "a fixed batch decides nothing but the stages");
    }

    #[test]
    fn the_controller_grows_in_each_stage_and_not_at_the_switch() {
        let settings = PlateauSettings {
            maximum_sequences: Some(64),
            minimum_steps_left: Some(10),
            ..PlateauSettings::new(0.005, 0.05)
        };
        let (points, decisions) = tell(&story(BatchPolicy::Plateau(settings))).unwrap();
        let grown = decisions.iter().filter(|d| d.kind == DecisionKind::Grow);
        assert!(grown.clone().count() >= 2, "{:?}", decisions.len());
        for decision in grown.filter(|d| d.stage == 1) {
            assert!(decision.tokens_seen.0 > 20_200, "not while the stage settles");
        }
        let (fixed, _) = tell(&story(BatchPolicy::Fixed)).unwrap();
        let rest = |points: &[StagePoint]| points.last().unwrap().loss;
        assert!(rest(&points) < rest(&fixed));
    }
}
