//! Whole decision logs on synthetic curves: a change of any verdict shows here.

use super::*;

/// A decision in a line, with the digits that a change of the test would move.
fn line(decision: &Decision) -> String {
    let kind = format!("{:?}", decision.kind).to_lowercase();
    let mut text = format!("{:>5} {kind} {}", decision.step, decision.to_sequences);
    if let (Some(verdict), Some(evidence)) = (decision.verdict, decision.evidence) {
        text += &format!(
            " {verdict:?} slope {:+.3e} error {:.3e} threshold {:.3} window {} spent {:.2e}",
            evidence.slope_nats_per_step,
            evidence.standard_error,
            evidence.threshold,
            evidence.window_steps,
            evidence.alpha_spent,
        );
    }
    if let Some(response) = decision.response {
        text += &format!(" responded {} at {:+.2}", response.responded, response.statistic);
    }
    if let Some(guard) = decision.guard {
        text += &format!(" held by {guard:?}");
    }
    text
}

fn log(decisions: &[Decision]) -> String {
    decisions.iter().map(|decision| line(decision) + "\n").collect()
}

/// An exponential descent to a floor that the batch lowers.
fn followed(seed: u64, noise: f64) -> Vec<Decision> {
    let steps = 2000;
    let delta = 10.0 * resolvable(steps, noise, 0.2);
    let (mut random, mut excess) = (Noise::white(seed), 1.0);
    let loss = |_, batch: u64| {
        excess += (0.4 * FIRST as f64 / batch as f64 - excess) / 40.0;
        2.0 + excess + noise * random.next()
    };
    simulate(settings(delta, steps), steps, loss, |_| false)
}

#[test]
fn a_floor_that_the_batch_lowers() {
    insta::assert_snapshot!(log(&followed(1, 0.05)));
}

#[test]
fn a_steady_descent() {
    let steps = 1000;
    let delta = resolvable(steps, 0.05, 0.2);
    let mut random = Noise::new(2, 0.5, 0.9);
    let loss = |step: u64, _| 3.0 - 3.0 * delta * step as f64 + 0.05 * random.next();
    insta::assert_snapshot!(log(&simulate(settings(delta, steps), steps, loss, |_| false)));
}
