//! The controller on losses whose truth is known.

mod control;
mod decay;
mod errors;
mod golden;
mod growth;
mod modes;
mod revising;

use terrace_base::{Seed, SeedStream, Tokens};

use super::*;

/// Sequences of the first batch, each of one token.
const FIRST: u64 = 8;
const LEARNING_RATE: f64 = 3e-5;

/// Noise of unit variance: a white part and an autoregressive one.
struct Noise {
    stream: SeedStream,
    share: f64,
    phi: f64,
    memory: f64,
    step: u64,
}

impl Noise {
    /// Noise with `share` of its variance autoregressive with coefficient `phi`.
    fn new(seed: u64, share: f64, phi: f64) -> Self {
        let stream = Seed(seed).stream("noise");
        Self { stream, share, phi, memory: stream.normal(u64::MAX / 4), step: 0 }
    }

    fn white(seed: u64) -> Self {
        Self::new(seed, 0.0, 0.0)
    }

    fn next(&mut self) -> f64 {
        self.step += 1;
        let innovation = (1.0 - self.phi * self.phi).sqrt() * self.stream.normal(2 * self.step);
        self.memory = self.phi * self.memory + innovation;
        let white = self.stream.normal(2 * self.step + 1);
        self.share.sqrt() * self.memory + (1.0 - self.share).sqrt() * white
    }
}

fn stage(steps: u64) -> StageInfo {
    StageInfo {
        index: 0,
        start_tokens: Tokens(0),
        budget_tokens: Tokens(steps * FIRST),
        batch: StageBatch::Carry,
        settle_tokens: Tokens(0),
        reference_weights: vec![1.0],
        trained_parameters: None,
    }
}

fn controller(settings: PlateauSettings, steps: u64) -> BatchController {
    let mut controller = BatchController::new(BatchPolicy::Plateau(settings), 1, FIRST).unwrap();
    assert_eq!(controller.on_stage_start(stage(steps)).kind, DecisionKind::Stage);
    controller
}

/// Settings with a threshold in nats per step.
fn settings(delta: f64, steps: u64) -> PlateauSettings {
    let settings = PlateauSettings::new(delta * steps as f64 / 100.0, 0.05);
    PlateauSettings { minimum_steps_left: Some(10), ..settings }
}

/// The threshold that a window of `share` of the stage resolves.
fn resolvable(steps: u64, sd: f64, share: f64) -> f64 {
    (12.0 * 16.0 * sd * sd / (steps as f64 * share).powi(3)).sqrt()
}

/// What a step gives to see, with one source.
fn observation(step: u64, tokens: u64, sources: &[SourceLoss]) -> Observation<'_> {
    Observation {
        step,
        tokens_seen: Tokens(tokens),
        sources,
        learning_rate: LEARNING_RATE,
        noise: None,
        is_bad: false,
        is_spike: false,
    }
}

/// Runs a stage on `loss(step, batch)`, until its tokens are spent or a decision says enough.
fn simulate(
    settings: PlateauSettings,
    steps: u64,
    mut loss: impl FnMut(u64, u64) -> f64,
    enough: impl Fn(&Decision) -> bool,
) -> Vec<Decision> {
    let mut controller = controller(settings, steps);
    let (mut tokens, mut step, mut decisions) = (0, 0, Vec::new());
    while tokens < steps * FIRST {
        let batch = controller.batch_sequences();
        step += 1;
        tokens += batch;
        let sources = [SourceLoss { nats: loss(step, batch) * batch as f64, targets: batch }];
        decisions.extend(controller.observe(observation(step, tokens, &sources)));
        if decisions.last().is_some_and(&enough) {
            break;
        }
    }
    decisions
}

fn grows(decision: &Decision) -> bool {
    decision.kind == DecisionKind::Grow
}

fn growths(decisions: &[Decision]) -> usize {
    decisions.iter().filter(|d| grows(d)).count()
}
