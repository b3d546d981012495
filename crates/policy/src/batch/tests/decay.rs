//! A decaying learning rate makes the loss fall, and its end makes it stop: neither says anything
//! about the batch.

use super::*;
use crate::learning_rate::{Decay, DecayShape, LearningRate};

const STEPS: u64 = 4000;
const SD: f64 = 0.01;

/// Runs a stage whose loss is at rest, with the learning rate that `rate` gives.
fn decisions(rate: LearningRate) -> Vec<Decision> {
    let mut controller = controller(settings(resolvable(STEPS, SD, 0.1), STEPS), STEPS);
    let mut noise = Noise::white(11);
    let (mut tokens, mut step, mut decisions) = (0, 0, Vec::new());
    while tokens < STEPS * FIRST {
        let batch = controller.batch_sequences();
        let learning_rate = rate.at(Tokens(tokens), Tokens(batch));
        step += 1;
        tokens += batch;
        let sources =
            [SourceLoss { nats: (2.0 + SD * noise.next()) * batch as f64, targets: batch }];
        let seen = Observation { learning_rate, ..observation(step, tokens, &sources) };
        decisions.extend(controller.observe(seen));
    }
    decisions
}

#[test]
fn a_decay_is_never_taken_for_a_plateau() {
    let constant = LearningRate::new(LEARNING_RATE, Tokens(0)).unwrap();
    assert!(growths(&decisions(constant)) > 0, "at a constant rate this loss grows the batch");
    for shape in [DecayShape::Linear, DecayShape::Cosine, DecayShape::OneMinusSqrt] {
        let stage = [Tokens(0), Tokens(STEPS * FIRST)];
        let decay = |share| Decay::at_the_end_of(stage, share, shape, 0.0).unwrap();
        assert_eq!(decisions(constant.with_decay(Some(decay(1.0)))), [], "{shape:?}");
        // Up to the decay everything is as without it, behind its beginning nothing is decided.
        let half = decay(0.5);
        let with = decisions(constant.with_decay(Some(half)));
        let until = |d: &&Decision| d.tokens_seen <= half.start();
        let without: Vec<Decision> = decisions(constant).iter().filter(until).cloned().collect();
        let behind = with.iter().filter(|d| !until(d)).count();
        assert!(growths(&with) > 0 && behind <= 1, "{behind} {shape:?}");
        assert_eq!(with[..without.len()], without);
    }
}

#[test]
fn a_new_baseline_forgets_what_was_seen() {
    let steps = STEPS;
    let mut controller = controller(settings(resolvable(steps, SD, 0.1), steps), steps);
    let mut noise = Noise::white(12);
    for step in 1..=steps {
        let sources = [SourceLoss { nats: 2.0 + SD * noise.next(), targets: 1 }];
        let decision = controller.observe(observation(step, step * FIRST, &sources));
        assert!(!decision.is_some_and(|d| grows(&d)), "it is forgotten before it can grow");
        if step.is_multiple_of(steps / 100) {
            let hold = controller.rebaseline(Tokens(step * FIRST), "the run went back".to_owned());
            assert_eq!((hold.kind, hold.step), (DecisionKind::Hold, step));
            assert_eq!(hold.from_sequences, hold.to_sequences);
            let once = controller.clone();
            let _ = controller.rebaseline(Tokens(step * FIRST), String::new());
            assert_eq!(controller, once);
        }
    }
}
