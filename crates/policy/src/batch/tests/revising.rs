//! Controllers that go on from the state of another.

use super::*;

const STEPS: u64 = 4000;
const SD: f64 = 0.05;

fn plateau() -> PlateauSettings {
    settings(20.0 * resolvable(STEPS, SD, 0.2), STEPS)
}

/// Feeds a loss at rest from one token to another; gives what was decided.
fn rest(controller: &mut BatchController, noise: &mut Noise, tokens: [u64; 2]) -> Vec<Decision> {
    let [mut seen, end] = tokens;
    let mut decisions = Vec::new();
    for step in 1.. {
        let batch = controller.batch_sequences();
        seen += batch;
        if seen > end {
            break;
        }
        let nats = (2.0 + SD * noise.next()) * batch as f64;
        let sources = [SourceLoss { nats, targets: batch }];
        decisions.extend(controller.observe(observation(step, seen, &sources)));
    }
    decisions
}

/// A controller that was told `policy`, in the state that `from` has come to.
fn taken_over(policy: BatchPolicy, from: &BatchController) -> BatchController {
    BatchController::new(policy, 1, FIRST).unwrap().with_state(from.state().clone())
}

#[test]
fn the_same_controller_has_nothing_to_heed() {
    let mut controller = controller(plateau(), STEPS);
    rest(&mut controller, &mut Noise::white(1), [0, 8000]);
    let mut again = taken_over(BatchPolicy::Plateau(plateau()), &controller);
    assert_eq!(again.heed(Tokens(8000), Some(Tokens(STEPS * FIRST))), None);
    assert_eq!(again, controller);
}

#[test]
fn other_settings_keep_the_threshold_the_batch_and_what_is_spent_of_alpha() {
    let mut controller = controller(plateau(), STEPS);
    let before = rest(&mut controller, &mut Noise::white(2), [0, 24_000]);
    let grown = before.iter().rfind(|decision| grows(decision)).expect("a loss at rest");
    let spent = before.iter().filter_map(|d| d.evidence).next_back().unwrap();
    let other = PlateauSettings { maximum_sequences: Some(64 * FIRST), ..plateau() };
    let mut other = taken_over(BatchPolicy::Plateau(other), &controller);
    let heeded = other.heed(Tokens(24_000), Some(Tokens(STEPS * FIRST))).unwrap();
    assert_eq!(heeded.kind, DecisionKind::Stage);
    assert!(heeded.step >= before[before.len() - 1].step && heeded.step > 0);
    assert_eq!(heeded.from_sequences, heeded.to_sequences);
    assert_eq!(other.batch_sequences(), grown.to_sequences);
    assert_eq!(heeded.delta_nats_per_step, grown.delta_nats_per_step, "fixed for the stage");
    let after = rest(&mut other, &mut Noise::white(3), [24_000, 32_000]);
    let first = after.iter().filter_map(|d| d.evidence).next().expect("a look");
    assert!(first.alpha_spent >= spent.alpha_spent && first.look > spent.look);
    assert!(first.window_steps < 400, "losses are forgotten: {first:?}");
}

#[test]
fn a_fixed_batch_can_be_given_to_the_plateau_test_within_a_stage() {
    let mut fixed = BatchController::new(BatchPolicy::Fixed, 1, FIRST).unwrap();
    fixed.on_stage_start(stage(STEPS));
    rest(&mut fixed, &mut Noise::white(4), [0, 4000]);
    let mut taken = taken_over(BatchPolicy::Plateau(plateau()), &fixed);
    let heeded = taken.heed(Tokens(4000), Some(Tokens(STEPS * FIRST))).unwrap();
    let mut own = BatchController::new(BatchPolicy::Plateau(plateau()), 1, FIRST).unwrap();
    assert_eq!(heeded.delta_nats_per_step, own.on_stage_start(stage(STEPS)).delta_nats_per_step);
    let decisions = rest(&mut taken, &mut Noise::white(4), [4000, 32_000]);
    assert!(decisions.iter().any(grows));
}

#[test]
fn a_longer_stage_grows_behind_the_old_end() {
    let mut controller = controller(plateau(), STEPS);
    let end = STEPS * FIRST;
    let mut longer = taken_over(BatchPolicy::Plateau(plateau()), &controller);
    assert_eq!(longer.heed(Tokens(0), Some(Tokens(3 * end))), None);
    let decisions = rest(&mut longer, &mut Noise::white(5), [end - 8, 3 * end]);
    assert!(growths(&decisions) > 0);
    // Where nobody was told of it, nothing is left of the stage.
    let decisions = rest(&mut controller, &mut Noise::white(5), [end - 8, 3 * end]);
    assert_eq!(growths(&decisions), 0);
}

#[test]
fn another_first_batch_is_the_batch_from_here_on_and_couplings_keep_the_run_s_own() {
    let coupling = Coupling { learning_rate: LearningRateCoupling::Sqrt, ..Coupling::default() };
    let fixed =
        |first| BatchController::new(BatchPolicy::Fixed, 1, first).unwrap().with_coupling(coupling);
    let mut run = fixed(FIRST);
    run.on_stage_start(stage(STEPS));
    let mut larger = fixed(4 * FIRST).with_state(run.state().clone());
    assert!(larger.heed(Tokens(800), Some(Tokens(STEPS * FIRST))).is_some());
    assert_eq!(larger.batch_sequences(), 4 * FIRST);
    assert_eq!(larger.factors().learning_rate, 2.0);
}
