//! Guards, flushes, modes and memory.

use proptest::prelude::*;

use super::*;

const STEPS: u64 = 1500;
const SD: f64 = 0.05;

fn at_rest(seed: u64) -> impl FnMut(u64, u64) -> f64 {
    let mut noise = Noise::white(seed);
    move |_, _| 2.0 + SD * noise.next()
}

/// Settings that find a plateau after about a tenth of [`STEPS`].
fn quick() -> PlateauSettings {
    settings(5.0 * resolvable(STEPS, SD, 0.2), STEPS)
}

fn guards(change: impl Fn(&mut PlateauSettings)) -> (usize, Vec<Guard>) {
    let mut settings = quick();
    change(&mut settings);
    let decisions = simulate(settings, STEPS, at_rest(1), |_| false);
    (growths(&decisions), decisions.iter().filter_map(|d| d.guard).collect())
}

type Change = fn(&mut PlateauSettings);

#[test]
fn guards_hold_a_growth_and_say_why() {
    let (free, _) = guards(|_| {});
    assert_eq!(free, 2);
    let cases: [(Guard, usize, Change); 4] = [
        (Guard::MaximumBatch, 1, |s| s.maximum_sequences = Some(2 * FIRST)),
        (Guard::TokensBetween, 1, |s| s.minimum_tokens_between = Tokens(STEPS * FIRST)),
        (Guard::StepsLeft, 0, |s| s.minimum_steps_left = Some(STEPS)),
        (Guard::Stability, 0, |s| s.stable_learning_rate = Some(1.01 * LEARNING_RATE)),
    ];
    for (guard, growths, change) in cases {
        let (found, guards) = guards(change);
        assert_eq!(found, growths, "{guard:?}");
        assert!(guards.contains(&guard), "{guard:?} is not among {guards:?}");
    }
}

#[test]
fn the_largest_batch_is_reached_even_if_it_is_no_power_of_two() {
    let settings = PlateauSettings { maximum_sequences: Some(11), ..quick() };
    let decisions = simulate(settings, STEPS, at_rest(1), grows);
    assert_eq!(decisions.last().unwrap().to_sequences, 11);
    // The root of 1.5 times the rate is stable at a batch half as large again.
    let stable_learning_rate = Some(1.5f64.sqrt() * 1.001 * LEARNING_RATE);
    let decisions =
        simulate(PlateauSettings { stable_learning_rate, ..quick() }, STEPS, at_rest(1), grows);
    assert_eq!(decisions.last().unwrap().to_sequences, FIRST * 3 / 2);
}

#[test]
fn after_a_growth_comes_a_cooldown_and_an_empty_window() {
    let decisions = simulate(quick(), STEPS, at_rest(2), |_| false);
    let growth = decisions.iter().position(grows).unwrap();
    let [grown, next] = [&decisions[growth], &decisions[growth + 1]];
    let window = grown.evidence.unwrap().window_steps;
    assert_eq!(grown.cooldown_steps, Some(quick().memory_steps().max(window.div_ceil(4))));
    assert!(next.step > grown.step + grown.cooldown_steps.unwrap());
    assert!(decisions.iter().all(|d| d.cooldown_steps.is_some() == grows(d)));
    let again = decisions[growth + 1..].iter().find_map(|d| d.evidence).unwrap();
    assert!(again.window_steps < window && again.confirmations <= 1);
}

#[test]
fn a_cooldown_that_is_set_moves_what_comes_after_the_growth() {
    let decisions = |cooldown_steps| {
        let settings = PlateauSettings { cooldown_steps, ..quick() };
        let decisions = simulate(settings, STEPS, at_rest(2), |_| false);
        let growth = decisions.iter().position(grows).unwrap();
        [decisions[growth].clone(), decisions[growth + 1].clone()]
    };
    let [derived, _] = decisions(None);
    let steps = [0, 25, 200].map(|cooldown| {
        let [grown, next] = decisions(Some(cooldown));
        // What is done after the growth has no part in the growth.
        assert_eq!((grown.step, grown.evidence), (derived.step, derived.evidence));
        assert_eq!(grown.cooldown_steps, Some(cooldown));
        assert!(next.step > grown.step + cooldown);
        next.step
    });
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
}

#[test]
fn the_threshold_stays_when_the_batch_grows() {
    let decisions = simulate(quick(), STEPS, at_rest(3), |_| false);
    assert!(growths(&decisions) > 0);
    let deltas: Vec<_> = decisions.iter().map(|d| d.delta_nats_per_step.unwrap()).collect();
    assert!(deltas.windows(2).all(|pair| pair[0] == pair[1]));
    assert!((deltas[0] - quick().nats_per_percent * 100.0 / STEPS as f64).abs() < 1e-15);
}

#[test]
fn alpha_is_spent_by_tests_and_never_exceeded() {
    let decisions = simulate(quick(), STEPS, at_rest(4), |_| false);
    let looks: Vec<Evidence> = decisions.iter().filter_map(|d| d.evidence).collect();
    assert!(looks.iter().any(|look| look.tested));
    let spent: f64 = looks.iter().map(|look| look.alpha_look).sum();
    assert!((spent - looks.last().unwrap().alpha_spent).abs() < 1e-12 && spent <= 0.05);
    let delta = decisions[0].delta_nats_per_step.unwrap();
    let sharp = |look: &Evidence| (look.threshold + 0.841_621_2) * look.standard_error <= delta;
    assert!(looks.iter().all(|look| look.tested == sharp(look)));
    assert!(looks.iter().all(|look| look.tested == (look.alpha_look > 0.0)));
    assert!(looks.iter().any(|look| !look.tested));
}

// A plateau that was seen once is forgotten when the loss falls again, at once or slowly.
#[test]
fn a_pending_confirmation_ends_when_the_loss_falls() {
    let delta = quick().nats_per_percent * 100.0 / STEPS as f64;
    for descent in [1.6, 10.0] {
        let mut controller = controller(quick(), STEPS);
        let mut noise = Noise::white(10);
        let (mut level, mut pending, mut ended) = (2.0, false, false);
        for step in 1..=STEPS {
            level -= if pending { descent * delta } else { 0.0 };
            let nats = (level + 0.2 * SD * noise.next()) * FIRST as f64;
            let sources = [SourceLoss { nats, targets: FIRST }];
            let decision = controller.observe(observation(step, step * FIRST, &sources));
            let Some(evidence) = decision.and_then(|d| d.evidence) else { continue };
            assert!(evidence.confirmations < 2, "{descent}: confirmed at step {step}");
            ended |= pending && evidence.confirmations == 0;
            pending |= evidence.confirmations == 1;
        }
        assert!(pending && ended, "{descent}");
    }
}

#[test]
fn a_pending_confirmation_waits_for_a_sharp_window_unless_the_loss_falls_fast() {
    let delta = quick().nats_per_percent * 100.0 / STEPS as f64;
    let (mut kept, mut dropped) = (0, 0);
    for seed in 0..200 {
        let mut controller = controller(quick(), STEPS);
        let mut noise = Noise::white(seed);
        let (mut level, mut pending) = (2.0, 0);
        for step in 1..=STEPS / 2 {
            level -= if pending > 0 { 2.0 * delta } else { 0.0 };
            let nats = (level + SD * noise.next()) * FIRST as f64;
            let sources = [SourceLoss { nats, targets: FIRST }];
            let decision = controller.observe(observation(step, step * FIRST, &sources));
            let Some(Decision { verdict, evidence: Some(evidence), .. }) = decision else {
                continue;
            };
            if pending == 1 && verdict == Some(Verdict::Undecided) {
                let falls = evidence.slope_nats_per_step <= -1.5 * delta;
                let waits = !evidence.tested && !falls;
                assert_eq!(evidence.confirmations, u32::from(waits));
                *(if waits { &mut kept } else { &mut dropped }) += 1;
            }
            pending = evidence.confirmations;
        }
    }
    assert!(kept > 20 && dropped > 0, "{kept} kept, {dropped} dropped");
}

// Each source falls, but the run moves from the easy to the hard one: the raw loss rises.
#[test]
fn a_wobble_of_the_mix_is_no_plateau() {
    let mut controller = BatchController::new(BatchPolicy::Plateau(quick()), 1, FIRST).unwrap();
    controller.on_stage_start(StageInfo { reference_weights: vec![0.6, 0.4], ..stage(STEPS) });
    let mut noise = Noise::white(5);
    let delta = quick().nats_per_percent * 100.0 / STEPS as f64;
    for step in 1..=STEPS {
        let hard = FIRST * step / STEPS;
        let fall = 2.0 * delta * step as f64;
        let source = |level: f64, targets: u64, noise: &mut Noise| {
            let mean = level - fall + SD * noise.next();
            SourceLoss { nats: mean * targets as f64, targets }
        };
        let sources = [source(1.0, FIRST - hard, &mut noise), source(4.0, hard, &mut noise)];
        if let Some(decision) = controller.observe(observation(step, step * FIRST, &sources)) {
            assert_ne!(decision.verdict, Some(Verdict::Plateau), "at step {step}");
            assert_ne!(decision.verdict, Some(Verdict::Rising), "at step {step}");
        }
    }
}

#[test]
fn spikes_and_bad_steps_leave_no_trace() {
    let run = |disturb: bool| {
        let mut controller = controller(quick(), STEPS);
        let mut noise = Noise::white(6);
        let mut decisions = Vec::new();
        for step in 1..=STEPS {
            let mut nats = (2.0 + SD * noise.next()) * FIRST as f64;
            let spikes = disturb && step > 20 && step % 37 == 0;
            nats *= if spikes { 4.0 } else { 1.0 };
            let sources = [SourceLoss { nats, targets: FIRST }];
            if disturb && step % 41 == 0 {
                let before = controller.state().clone();
                for nats in [f64::NAN, 1e3] {
                    let sources = [SourceLoss { nats, targets: FIRST }];
                    let seen = observation(step, step * FIRST, &sources);
                    let bad = Observation { is_bad: true, ..seen };
                    assert_eq!(controller.observe(bad), None);
                }
                assert_eq!(controller.state(), &before);
            }
            decisions.extend(controller.observe(observation(step, step * FIRST, &sources)));
            if controller.batch_sequences() > FIRST {
                break;
            }
        }
        decisions.last().unwrap().step
    };
    let [calm, disturbed] = [run(false), run(true)];
    assert!(disturbed < calm + calm / 4, "{calm} {disturbed}");
}

#[test]
fn warm_up_and_a_new_learning_rate_empty_the_window() {
    let mut controller = controller(quick(), STEPS);
    let mut noise = Noise::white(7);
    let mut first = None;
    for step in 1..=STEPS {
        let sources = [SourceLoss { nats: (2.0 + SD * noise.next()) * 8.0, targets: 8 }];
        let warmth = (step as f64 / 100.0).min(1.0);
        let learning_rate = LEARNING_RATE * warmth * if step > 700 { 0.5 } else { 1.0 };
        let seen = observation(step, step * FIRST, &sources);
        let decision = controller.observe(Observation { learning_rate, ..seen });
        let Some(evidence) = decision.and_then(|d| d.evidence) else { continue };
        first.get_or_insert(step);
        let since = if step > 700 { step - 700 } else { step - 99 };
        assert!(evidence.window_steps <= since, "at step {step}");
    }
    assert!(first.unwrap() > 110);
}

#[test]
fn a_stage_or_a_new_mix_starts_afresh() {
    let mut controller = controller(quick(), STEPS);
    let mut noise = Noise::white(8);
    let mut feed = |controller: &mut BatchController, from: u64, to: u64, level: f64| {
        let mut decisions = Vec::new();
        for step in from..to {
            let sources = [SourceLoss { nats: (level + SD * noise.next()) * 8.0, targets: 8 }];
            decisions.extend(controller.observe(observation(step, step * FIRST, &sources)));
        }
        decisions
    };
    feed(&mut controller, 1, 120, 2.0);
    let mixed = controller.on_mix_change(&[1.0], Tokens(119 * FIRST));
    assert_eq!((mixed.kind, mixed.tokens_seen), (DecisionKind::Mix, Tokens(119 * FIRST)));
    assert_eq!((mixed.from_sequences, mixed.to_sequences), (FIRST, FIRST));
    assert_eq!(controller.reference_weights(), Some(&[1.0][..]));
    let after = feed(&mut controller, 120, 160, 3.0);
    assert!(after.iter().filter_map(|d| d.evidence).all(|e| e.window_steps <= 40));

    let start_tokens = Tokens(160 * FIRST);
    let (batch, settle_tokens) = (StageBatch::Sequences(32), Tokens(50 * FIRST));
    let next = StageInfo { index: 1, start_tokens, batch, settle_tokens, ..stage(STEPS) };
    let begun = controller.on_stage_start(next);
    assert_eq!((begun.from_sequences, begun.to_sequences, begun.stage), (8, 32, 1));
    // The stage has a quarter of the steps at the larger batch: delta per step is four times that.
    let per_step = quick().nats_per_percent * 100.0 / (STEPS as f64 / 4.0);
    assert!((begun.delta_nats_per_step.unwrap() / per_step - 1.0).abs() < 1e-12);
    let settling = feed(&mut controller, 160, 211, 3.0);
    assert!(settling.is_empty());
    let first = feed(&mut controller, 211, 300, 3.0).into_iter().next().unwrap();
    assert_eq!(first.evidence.unwrap().look, 1);
}

#[test]
fn a_schedule_takes_effect_at_its_thresholds() {
    let steps = vec![(Tokens(100), 16), (Tokens(200), 24)];
    let mut controller = BatchController::new(BatchPolicy::Steps(steps), 1, FIRST).unwrap();
    controller.on_stage_start(stage(100));
    let (mut tokens, mut batches) = (0, Vec::new());
    for step in 1..=25 {
        let batch = controller.batch_sequences();
        batches.push((tokens, batch));
        tokens += batch;
        let sources = [SourceLoss { nats: 1.0, targets: 1 }];
        let decision = controller.observe(observation(step, tokens, &sources));
        assert_eq!(decision.is_some(), controller.batch_sequences() != batch);
    }
    for (tokens, batch) in batches {
        let expected = if tokens < 100 {
            8
        } else if tokens < 200 {
            16
        } else {
            24
        };
        assert_eq!(batch, expected, "at {tokens} tokens");
    }
    // A stage that begins behind a threshold begins with its batch.
    let begun = controller.on_stage_start(StageInfo { start_tokens: Tokens(150), ..stage(100) });
    assert_eq!(begun.to_sequences, 16);
}

#[test]
fn a_fixed_batch_is_set_by_stages_only() {
    let mut controller = BatchController::new(BatchPolicy::Fixed, 1, FIRST).unwrap();
    controller.on_stage_start(StageInfo { batch: StageBatch::Sequences(5), ..stage(100) });
    let sources = [SourceLoss { nats: 1.0, targets: 1 }];
    assert!((1..500).all(|s| controller.observe(observation(s, s, &sources)).is_none()));
    assert_eq!(controller.batch_sequences(), 5);
    assert_eq!(controller.on_stage_start(stage(100)).to_sequences, 5);
}

#[test]
fn memory_is_bounded_and_a_long_stage_is_affordable() {
    let steps = 100_000;
    let settings = settings(resolvable(steps, SD, 0.05), steps);
    let mut controller = controller(settings, steps);
    let mut noise = Noise::new(9, 0.2, 0.9);
    let (mut largest, mut looks) = (0, 0);
    for step in 1..=steps {
        let loss = 1.5 + (-(step as f64) / 3e4).exp() + SD * noise.next();
        let sources = [SourceLoss { nats: loss * 8.0, targets: 8 }];
        looks += usize::from(controller.observe(observation(step, step * 8, &sources)).is_some());
        if step % 5000 == 0 {
            largest = largest.max(serde_json::to_string(controller.state()).unwrap().len());
        }
    }
    assert!(largest < 10_000, "{largest} bytes");
    assert!((20..1000).contains(&looks), "{looks} looks");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn saving_and_loading_changes_no_decision(seed in 0u64..1000, cuts in prop::collection::vec(0u64..600, 1..6)) {
        let policy = BatchPolicy::Plateau(quick());
        let run = |cuts: &[u64]| {
            let mut controller = controller(quick(), STEPS);
            let mut noise = Noise::white(seed);
            let (mut tokens, mut decisions) = (0, Vec::new());
            for step in 0..600 {
                if cuts.contains(&step) {
                    let json = serde_json::to_string(controller.state()).unwrap();
                    let state: BatchControllerState = serde_json::from_str(&json).unwrap();
                    assert_eq!(&state, controller.state());
                    controller = BatchController::restore(policy.clone(), 1, state).unwrap();
                }
                let batch = controller.batch_sequences();
                tokens += batch;
                let nats = (2.0 + SD * noise.next()) * batch as f64;
                let sources = [SourceLoss { nats, targets: batch }];
                decisions.extend(controller.observe(observation(step + 1, tokens, &sources)));
            }
            (decisions, controller.state().clone())
        };
        prop_assert_eq!(run(&[]), run(&cuts));
    }
}
