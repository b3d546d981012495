//! The stages of a plan: sequences, steps, shares of the sources, and batches.

use std::collections::BTreeMap;

use terrace_base::Tokens;

use crate::batch::{BatchSchedule, StageBatch};
use crate::facts::Facts;
use crate::mixture::MixtureWeights;
use crate::plan::{DecayPlan, MixtureChangePlan, PlateauPlan, RungPlan, SharePlan, StagePlan};
use crate::plateau::{cooldown_steps, window_steps};
use crate::run::{RunConfig, Stage};
use crate::segments::StageSegment;

/// The batch for which `assumed_noise_sd` is stated.
const NOISE_BATCH_TOKENS: f64 = 4_194_304.0;

/// Plans every stage, in order.
pub(crate) fn plan(config: &RunConfig, facts: &Facts) -> Vec<StagePlan> {
    let length = config.training.sequence_length as u64;
    let micro_batch = config.training.micro_batch_sequences as u64;
    let schedule = config.batch.known_schedule(length, micro_batch);
    let mut planner =
        Planner { config, facts, schedule, starts_at: 0, carried: None, drawn: BTreeMap::new() };
    config.stages.iter().map(|stage| planner.stage(stage)).collect()
}

struct Planner<'a> {
    config: &'a RunConfig,
    facts: &'a Facts,
    /// The batches, where they are known beforehand and change.
    schedule: Option<BatchSchedule>,
    starts_at: u64,
    /// The batch that the stage before leaves if nothing grows it.
    carried: Option<Tokens>,
    /// The windows drawn so far, by source.
    drawn: BTreeMap<String, u64>,
}

impl Planner<'_> {
    fn stage(&mut self, stage: &Stage) -> StagePlan {
        let length = self.config.training.sequence_length as u64;
        let sequences = stage.budget_tokens.0 / length;
        let tokens = sequences * length;
        let span = [self.starts_at, self.starts_at + tokens];
        let first = self.first_batch(stage);
        let steps_at_first = tokens.div_ceil(first.0);
        let steps = match &self.schedule {
            Some(schedule) => Some(scheduled_steps(schedule, span)),
            None => (!self.config.batch.mode.measures()).then_some(steps_at_first),
        };
        let segments = stage.segments(length).expect("weights were checked when loading");
        let plan = StagePlan {
            name: stage.name.clone(),
            budget_tokens: stage.budget_tokens.0,
            sequences,
            tokens,
            starts_at_tokens: self.starts_at,
            learning_rate: self.config.learning_rate(stage),
            decay: decay_plan(self.config, stage, span),
            first_batch_tokens: first.0,
            steps_at_first_batch: steps_at_first,
            steps,
            weight_parts_total: segments[0].weights.total,
            mixture: self.shares(&segments),
            mixture_changes: segments[1..].iter().map(|s| change(s, length)).collect(),
            rungs: self.rungs(stage, first, span),
        };
        self.starts_at += tokens;
        self.carried = Some(first);
        plan
    }

    fn first_batch(&self, stage: &Stage) -> Tokens {
        let batch = &self.config.batch;
        match (&self.schedule, stage.batch) {
            (Some(schedule), _) => schedule.at(Tokens(self.starts_at)),
            (None, StageBatch::Tokens(tokens)) => tokens,
            (None, StageBatch::Carry) => self.carried.unwrap_or_else(|| batch.first_tokens()),
        }
    }

    /// What each source gives to the stage, over all its segments.
    fn shares(&mut self, segments: &[StageSegment]) -> Vec<SharePlan> {
        let mut windows = BTreeMap::new();
        for segment in segments {
            for (source, count) in segment.weights.sources.iter().zip(segment.apportion()) {
                *windows.entry(source.clone()).or_insert(0) += count;
            }
        }
        windows.into_iter().map(|(source, count)| self.share(source, count, segments)).collect()
    }

    fn share(&mut self, source: String, windows: u64, segments: &[StageSegment]) -> SharePlan {
        let drawn = self.drawn.entry(source.clone()).or_default();
        *drawn += windows;
        let drawn = *drawn;
        let available = self.facts.editions.get(&source).map(|edition| edition.windows);
        let epochs = |windows: u64| available.map(|n| windows as f64 / n.max(1) as f64);
        let (first, last) = (&segments[0], &segments[segments.len() - 1]);
        let place = |segment: &StageSegment| {
            segment.weights.sources.iter().position(|name| *name == source)
        };
        let (start, end) = (place(first), place(last));
        let is_one = segments.len() == 1;
        let changes = !is_one || !first.weights.is_constant();
        SharePlan {
            weight: start.map_or(0.0, |index| first.weights.start_share(index)),
            weight_parts: start.map_or(0, |index| first.weights.start[index]),
            weight_end: changes.then(|| end.map_or(0.0, |index| last.weights.end_share(index))),
            weight_end_parts: end.filter(|_| changes && is_one).map(|i| last.weights.end[i]),
            tokens: windows * self.config.training.sequence_length as u64,
            windows,
            windows_available: available,
            epochs: epochs(windows),
            epochs_cumulative: epochs(drawn),
            cap: self.config.sources[&source].max_epochs,
            // Exceeded caps have been refused before a plan is made.
            cap_exceeded: available.map(|_| false),
            source,
        }
    }

    fn rungs(&self, stage: &Stage, first: Tokens, span: [u64; 2]) -> Vec<RungPlan> {
        let batch = &self.config.batch;
        let length = self.config.training.sequence_length;
        let micro = self.config.training.micro_batch_sequences as u64;
        let tokens = span[1] - span[0];
        let batches = match &self.schedule {
            Some(schedule) => scheduled_batches(schedule, span),
            None if batch.mode.measures() => {
                let rate = self.config.learning_rate(stage);
                batch.rungs(first, batch.largest_tokens(length, rate).max(first))
            }
            None => vec![first],
        };
        let rung = |size: Tokens| RungPlan {
            batch_tokens: size.0,
            batch_sequences: size.0 / length as u64,
            accumulation_steps: (size.0 / length as u64).div_ceil(micro),
            steps_if_whole_stage: tokens.div_ceil(size.0),
            plateau: (batch.mode.has_test())
                .then(|| plateau_plan(self.config, first, size, tokens)),
        };
        batches.into_iter().map(rung).collect()
    }
}

fn decay_plan(config: &RunConfig, stage: &Stage, [start, end]: [u64; 2]) -> Option<DecayPlan> {
    let span = [Tokens(start), Tokens(end - start)];
    let rate = config.rate_of(stage, span).expect("rates were checked when loading");
    let decay = rate.decay()?;
    Some(DecayPlan {
        shape: decay.shape().name().to_owned(),
        starts_at_tokens: decay.start().0,
        tokens: decay.tokens().0,
        final_learning_rate: rate.peak() * decay.at(Tokens(end)),
    })
}

fn change(segment: &StageSegment, sequence_length: u64) -> MixtureChangePlan {
    let weights = &segment.weights;
    let shares = |share: fn(&MixtureWeights, usize) -> f64| {
        let named = |(index, source): (usize, &String)| (source.clone(), share(weights, index));
        weights.sources.iter().enumerate().map(named).collect()
    };
    MixtureChangePlan {
        after_tokens: segment.begins_at * sequence_length,
        weights: shares(MixtureWeights::start_share),
        weights_end: (!weights.is_constant()).then(|| shares(MixtureWeights::end_share)),
    }
}

/// The threshold is fixed by the stage's first batch; only the noise shrinks as the batch grows.
fn plateau_plan(config: &RunConfig, first: Tokens, size: Tokens, stage_tokens: u64) -> PlateauPlan {
    let test = &config.batch.plateau;
    let nats_per_step = test.nats_per_percent * 100.0 * first.0 as f64 / stage_tokens as f64;
    let noise_sd_nats = test.assumed_noise_sd * (NOISE_BATCH_TOKENS / size.0 as f64).sqrt();
    let window_steps = window_steps(nats_per_step, noise_sd_nats, test.alpha);
    let window_tokens = window_steps.saturating_mul(size.0);
    let derived = || cooldown_steps(window_steps, config.optimizer.beta2);
    PlateauPlan {
        nats_per_step,
        noise_sd_nats,
        window_steps,
        window_tokens,
        cooldown_steps: test.cooldown_steps.unwrap_or_else(derived),
    }
}

/// The steps from one token count to another: each has the batch that its beginning falls into, the
/// last one ends with the stage.
fn scheduled_steps(schedule: &BatchSchedule, [from, to]: [u64; 2]) -> u64 {
    let (mut position, mut steps) = (from, 0);
    while position < to {
        let batch = schedule.at(Tokens(position)).0;
        let changes = schedule.0.iter().map(|entry| entry.tokens_seen.0);
        let until = changes.filter(|at| *at > position).min().unwrap_or(to).min(to);
        let count = (until - position).div_ceil(batch);
        steps += count;
        position = position.saturating_add(count.saturating_mul(batch));
    }
    steps
}

fn scheduled_batches(schedule: &BatchSchedule, [from, to]: [u64; 2]) -> Vec<Tokens> {
    let later = schedule.0.iter().filter(|e| from < e.tokens_seen.0 && e.tokens_seen.0 < to);
    let mut batches = vec![schedule.at(Tokens(from))];
    for batch in later.map(|entry| entry.batch) {
        if !batches.contains(&batch) {
            batches.push(batch);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_step_keeps_the_batch_it_began_with() {
        let schedule: BatchSchedule = "0:4 10:8".parse().unwrap();
        // Steps at 0, 4, 8 of four tokens; the next begins at 12.
        assert_eq!(scheduled_steps(&schedule, [0, 12]), 3);
        assert_eq!(scheduled_steps(&schedule, [0, 29]), 6);
        assert_eq!(scheduled_batches(&schedule, [0, 10]), [Tokens(4)]);
        assert_eq!(scheduled_batches(&schedule, [4, 11]), [Tokens(4), Tokens(8)]);
    }

    proptest! {
        #[test]
        fn steps_are_those_of_walking(
            batches in proptest::collection::vec((1u64..50, 1u64..9), 0..4),
            first in 1u64..9,
            from in 0u64..60,
            length in 0u64..200,
        ) {
            let mut text = format!("0:{first}");
            let mut at = 0;
            for (gap, batch) in batches {
                at += gap;
                text += &format!(" {at}:{batch}");
            }
            let schedule: BatchSchedule = text.parse().unwrap();
            let (mut position, mut steps) = (from, 0);
            while position < from + length {
                position += schedule.at(Tokens(position)).0;
                steps += 1;
            }
            prop_assert_eq!(scheduled_steps(&schedule, [from, from + length]), steps);
        }
    }
}
