//! What growths lead to.

use super::*;

const SD: f64 = 0.05;

/// A loss that goes exponentially to a floor, which the batch may lower.
fn approach(seed: u64, memory: f64, floor: impl Fn(u64) -> f64) -> impl FnMut(u64, u64) -> f64 {
    let (mut noise, mut excess) = (Noise::white(seed), 1.0);
    move |_, batch| {
        excess += (floor(batch) - excess) / memory;
        2.0 + excess + SD * noise.next()
    }
}

fn is_exhausted(decision: &Decision) -> bool {
    decision.kind == DecisionKind::Exhausted
}

#[test]
fn a_loss_that_growth_does_not_affect_is_grown_on_twice_and_then_no_more() {
    for (steps, sharpness) in [(2000, 5.0), (2000, 20.0), (10_000, 10.0)] {
        let delta = sharpness * resolvable(steps, SD, 0.2);
        let (mut exhausted, mut held) = (0, 0);
        for seed in 0..60 {
            let loss = approach(seed, steps as f64 / 200.0, |_| 0.3);
            let decisions = simulate(settings(delta, steps), steps, loss, |_| false);
            assert_eq!(growths(&decisions), 2, "{steps} steps, seed {seed}");
            // A few unlucky windows are so long that the stage ends before the second answer.
            let Some(end) = decisions.iter().position(is_exhausted) else { continue };
            let answer = decisions[end].response.unwrap();
            assert!(!answer.responded && answer.unresponsive_growths == 2);
            exhausted += 1;
            held += decisions[end..].iter().filter(|d| d.guard == Some(Guard::Exhausted)).count();
        }
        assert!(exhausted >= 55, "{exhausted} of 60 stages of {steps} steps");
        assert!(held >= 20, "plateaus go on to be recorded, found {held}");
    }
}

#[test]
fn a_noise_floor_that_the_batch_lowers_is_followed_down() {
    let steps = 20_000;
    let delta = 20.0 * resolvable(steps, SD, 0.2);
    let mut answered = 0;
    for seed in 0..20 {
        let floor = |batch: u64| 0.5 * FIRST as f64 / batch as f64;
        let loss = approach(seed, 100.0, floor);
        let decisions = simulate(settings(delta, steps), steps, loss, |_| false);
        let growths = growths(&decisions);
        assert!((3..=5).contains(&growths), "seed {seed}: {growths} growths");
        let answers = decisions.iter().filter_map(|d| d.response);
        answered += answers.filter(|response| response.responded).count();
        let batches: Vec<u64> =
            decisions.iter().filter(|d| grows(d)).map(|d| d.to_sequences).collect();
        assert!(batches.windows(2).all(|pair| pair[1] == 2 * pair[0]));
    }
    assert!(answered >= 50, "{answered} answers in 20 runs");
}

// Below what the noise lets anyone see, growths end although the floor could still be lowered.
#[test]
fn growths_end_where_the_answer_drowns_in_noise() {
    let steps = 20_000;
    let delta = 20.0 * resolvable(steps, SD, 0.2);
    let mut exhausted = 0;
    for seed in 0..20 {
        let loss = approach(seed, 100.0, |batch| 0.05 * FIRST as f64 / batch as f64);
        let decisions = simulate(settings(delta, steps), steps, loss, |_| false);
        assert!(growths(&decisions) <= 4, "seed {seed}");
        exhausted += usize::from(decisions.iter().any(is_exhausted));
    }
    assert!(exhausted >= 15, "{exhausted} of 20 stages");
}

#[test]
fn a_rising_loss_is_never_grown_on() {
    let steps = 2000;
    let delta = resolvable(steps, SD, 0.1);
    for seed in 0..40 {
        let mut noise = Noise::white(seed);
        let loss = |step: u64, _| 2.0 + 1e-3 * step as f64 + SD * noise.next();
        let decisions = simulate(settings(delta, steps), steps, loss, |_| false);
        assert_eq!(growths(&decisions), 0, "seed {seed}");
        assert!(decisions.iter().any(|d| d.verdict == Some(Verdict::Rising)));
    }
}

#[test]
fn a_tiny_stage_can_be_grown_in_and_has_time_to_answer() {
    let steps = 300;
    let delta = resolvable(steps, 0.1, 0.2);
    let grown = (0..50).filter(|seed| {
        let mut noise = Noise::white(*seed);
        let loss = |step: u64, _| 4.0 + 2.0 * (-(step as f64) / 20.0).exp() + 0.1 * noise.next();
        let decisions = simulate(settings(delta, steps), steps, loss, grows);
        decisions.last().is_some_and(|last| grows(last) && last.step < 220)
    });
    let grown = grown.count();
    assert!(grown >= 35, "{grown} of 50 stages of 300 steps");
}
