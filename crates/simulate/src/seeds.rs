//! The controller that trains, on noisy losses, over many seeds.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use terrace_base::{Seed, Tokens};
use terrace_policy::batch::{
    BatchController, BatchError, BatchPolicy, Observation, PlateauSettings, SourceLoss, StageBatch,
    StageInfo,
};

use crate::closed_form::Cost;
use crate::quadratic::{Position, Quadratic};
use crate::rules::Walk;

/// A run of the shipped plateau test: one example is one token, and the stage is the whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlateauRun {
    /// What the controller is told.
    pub settings: PlateauSettings,
    /// The first batch.
    pub first: u64,
    /// Examples of the stage.
    pub budget: u64,
    /// Standard deviation of the loss of one example; a batch of `B` has one of this over `sqrt(B)`.
    pub loss_noise: f64,
}

/// The walks of all seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Controlled {
    /// One for each seed, in order.
    pub walks: Vec<Walk>,
}

/// What reaching a target cost over the seeds that reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The share of seeds that reached the target.
    pub reached: f64,
    /// Median steps.
    pub steps: f64,
    /// The fifth percentile of the steps.
    pub steps_p5: f64,
    /// The ninety-fifth.
    pub steps_p95: f64,
    /// Median examples.
    pub examples: f64,
    /// The fifth percentile of the examples.
    pub examples_p5: f64,
    /// The ninety-fifth.
    pub examples_p95: f64,
}

impl Controlled {
    /// What reaching `target` cost; none if no seed reached it.
    #[must_use]
    pub fn cost(&self, target: f64) -> Option<Distribution> {
        let found: Vec<Cost> = self.walks.iter().filter_map(|walk| walk.cost(target)).collect();
        if found.is_empty() {
            return None;
        }
        let sorted = |value: fn(&Cost) -> f64| {
            let mut values: Vec<f64> = found.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (steps, examples) = (sorted(|cost| cost.steps as f64), sorted(|cost| cost.examples));
        Some(Distribution {
            reached: found.len() as f64 / self.walks.len() as f64,
            steps: quantile(&steps, 0.5),
            steps_p5: quantile(&steps, 0.05),
            steps_p95: quantile(&steps, 0.95),
            examples: quantile(&examples, 0.5),
            examples_p5: quantile(&examples, 0.05),
            examples_p95: quantile(&examples, 0.95),
        })
    }
}

/// The value below which a share of sorted values lies, interpolated between neighbours.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + rest * (sorted[above] - sorted[below])
}

/// Trains by the plateau controller once for each seed, until the stage's examples are spent or the
/// expected loss is at most `target`.
///
/// The controller sees the expected loss of its batches plus noise; what a target cost is read off
/// the expected loss.
///
/// # Errors
///
/// The settings make no sense.
///
/// # Determinism
///
/// A function of the arguments: seeds are streams of their own, whatever the number of threads.
pub fn controlled(
    model: &Quadratic,
    start: &Position,
    run: &PlateauRun,
    seed: Seed,
    seeds: u64,
    target: f64,
) -> Result<Controlled, BatchError> {
    let one = |number| one(model, start, run, seed, number, target);
    let walks: Result<Vec<Walk>, BatchError> = (0..seeds).into_par_iter().map(one).collect();
    Ok(Controlled { walks: walks? })
}

fn one(
    model: &Quadratic,
    start: &Position,
    run: &PlateauRun,
    seed: Seed,
    number: u64,
    target: f64,
) -> Result<Walk, BatchError> {
    let policy = BatchPolicy::Plateau(run.settings.clone());
    let mut controller = BatchController::new(policy, 1, run.first)?;
    let _begun = controller.on_stage_start(StageInfo {
        index: 0,
        start_tokens: Tokens(0),
        budget_tokens: Tokens(run.budget),
        batch: StageBatch::Carry,
        settle_tokens: Tokens(0),
        reference_weights: vec![1.0],

        trained_parameters: None,
    });
    let noise = seed.stream(&format!("loss/{number}"));
    let mut at = start.clone();
    let mut walk = Walk { losses: vec![model.loss(&at)], batches: Vec::new() };
    let (mut examples, mut step) = (0, 0);
    while examples < run.budget && walk.losses.last().is_some_and(|loss| *loss > target) {
        let batch = controller.batch_sequences().min(run.budget - examples);
        let seen = model.loss(&at) + run.loss_noise / (batch as f64).sqrt() * noise.normal(step);
        model.step(&mut at, batch as f64);
        examples += batch;
        step += 1;
        walk.batches.push(batch as f64);
        walk.losses.push(model.loss(&at));
        let sources = [SourceLoss { nats: seen * batch as f64, targets: batch }];
        let _decision = controller.observe(Observation {
            step,
            tokens_seen: Tokens(examples),
            sources: &sources,
            learning_rate: model.learning_rate,
            noise: None,
            is_bad: false,
            is_spike: false,
        });
    }
    Ok(walk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closed_form::oracle;
    use crate::rules::{Fixed, walk};

    fn run(nats_per_step: f64, budget: u64, loss_noise: f64) -> PlateauRun {
        let settings = PlateauSettings {
            beta2: 0.0,
            minimum_steps_left: Some(1),
            ..PlateauSettings::new(nats_per_step * budget as f64 / 100.0, 0.05)
        };
        PlateauRun { settings, first: 1, budget, loss_noise }
    }

    /// On 200 seeds of noisy losses, the shipped test costs more than the oracle, which knows all, and
    /// less than not growing, wherever both get there.
    #[test]
    fn the_shipped_test_lies_between_the_oracle_and_no_growth() {
        let model = Quadratic::power_law(50, 1.0, 1.0, 0.5);
        let start = Position::start(50, 1.0);
        // Just above the floor of a batch of one, 0.625361, both get there.
        let near_the_floor = run(1e-3, 10_000, 0.1);
        let far_below = run(4e-4, 40_000, 0.02);
        for (run, targets) in
            [(near_the_floor, &[0.625_37, 0.10][..]), (far_below, &[0.10, 0.03, 0.01])]
        {
            let least = targets.last().copied().unwrap();
            let found = controlled(&model, &start, &run, Seed(17), 200, least).unwrap();
            for target in targets.iter().copied() {
                let cost = found.cost(target).expect("most seeds get there");
                assert!(cost.reached > 0.95, "{target}: {cost:?}");
                let best = oracle(&model, &start, target).unwrap();
                assert!(cost.examples_p5 > best.examples, "{target}: {cost:?} against {best:?}");
                let still = walk(&model, &start, &mut Fixed(1.0), target, 5000).cost(target);
                assert_eq!(still.is_some(), target > model.floor(), "{target}");
                if let Some(still) = still {
                    assert!(cost.examples < still.examples, "{target}: {cost:?}, {still:?}");
                }
            }
            let grows = |walk: &Walk| walk.batches[..walk.batches.len() - 1].is_sorted();
            assert!(found.walks.iter().all(grows), "a batch never shrinks");
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let model = Quadratic::power_law(10, 1.0, 1.0, 0.5);
        let start = Position::start(10, 1.0);
        let all = || controlled(&model, &start, &run(1e-3, 2000, 0.02), Seed(3), 8, 0.1).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(all), all());
    }
}
