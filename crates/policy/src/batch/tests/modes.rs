//! Ramps, advisors, couplings, and what a growth is predicted to do.

use proptest::prelude::*;

use super::*;

const STEPS: u64 = 1500;
const SD: f64 = 0.05;

/// Settings that find a plateau after about a tenth of [`STEPS`].
fn quick() -> PlateauSettings {
    settings(5.0 * resolvable(STEPS, SD, 0.2), STEPS)
}

/// Trains a stage in a world that gives, for a step and its batch, the loss and what is said about
/// the noise; gives the decisions and the batch of each step.
fn train(
    controller: &mut BatchController,
    begin: &StageInfo,
    world: &mut impl FnMut(u64, u64) -> (f64, Option<NoiseSample>),
) -> (Vec<Decision>, Vec<u64>) {
    let mut decisions = vec![controller.on_stage_start(begin.clone())];
    let (mut tokens, mut step, mut batches) = (begin.start_tokens.0, 0, Vec::new());
    while tokens < begin.start_tokens.0 + begin.budget_tokens.0 {
        let batch = controller.batch_sequences();
        batches.push(batch);
        step += 1;
        tokens += batch;
        let (loss, noise) = world(step, batch);
        let sources = [SourceLoss { nats: loss * batch as f64, targets: batch }];
        let seen = Observation { noise, ..observation(step, tokens, &sources) };
        decisions.extend(controller.observe(seen));
    }
    (decisions, batches)
}

fn sample(noise_scale: f64, targets: u64) -> Option<NoiseSample> {
    Some(NoiseSample { gradient_square: 0.5, noise_trace: 0.5 * noise_scale, targets })
}

fn following(advisor: Advisor, limits: Limits) -> BatchController {
    let policy = BatchPolicy::Following(Following { advisor, limits });
    BatchController::new(policy, 1, FIRST).unwrap()
}

const ROOT: Advisor = Advisor::NoiseScale(SqrtRule { step_cost_tokens: 4.0 });

#[test]
fn a_ramp_is_climbed_in_its_increments_and_goes_on_over_stages() {
    let ramp = Ramp { to_sequences: 32, tokens: Tokens(2000), increment_sequences: 6 };
    let mut controller = BatchController::new(BatchPolicy::Ramp(ramp), 1, FIRST).unwrap();
    let mut flat = |_: u64, _: u64| (1.0, None);
    let (decisions, batches) = train(&mut controller, &stage(125), &mut flat);
    assert!(batches.is_sorted() && batches[0] == 8 && *batches.last().unwrap() == 14);
    let next = StageInfo { index: 1, start_tokens: Tokens(1000), ..stage(200) };
    let (later, batches) = train(&mut controller, &next, &mut flat);
    assert_eq!(later[0].to_sequences, 20);
    assert_eq!(batches.iter().max(), Some(&32));
    let grown: Vec<u64> =
        decisions.iter().chain(&later).filter(|d| grows(d)).map(|d| d.to_sequences).collect();
    assert_eq!(grown, [14, 20, 26, 32]);
}

#[test]
fn the_root_of_the_noise_scale_is_approached_and_never_left_downwards() {
    // The noise scale is nine times the batch: √(4 · 9 B) = B at 36.
    let mut controller = following(ROOT, Limits::up_to(1000));
    let (decisions, batches) = train(&mut controller, &stage(20_000), &mut |_, batch| {
        (1.0, sample(9.0 * batch as f64, batch))
    });
    assert!(batches.is_sorted());
    assert!((30..=36).contains(batches.last().unwrap()), "{:?}", batches.last());
    assert!(growths(&decisions) >= 3);
    for decision in &decisions[1..] {
        let advised = decision.advice.unwrap().batch_tokens;
        assert!(decision.to_sequences <= 2 * decision.from_sequences);
        if grows(decision) {
            assert!(decision.to_sequences as f64 <= advised.unwrap());
            assert!(decision.noise.unwrap().targets.is_some());
        }
    }
    let before = controller.batch_sequences();
    let next = StageInfo { index: 1, start_tokens: Tokens(160_000), ..stage(20_000) };
    let (decisions, batches) = train(&mut controller, &next, &mut |_, b| (1.0, sample(2.0, b)));
    assert!(growths(&decisions) == 0 && batches.iter().all(|batch| *batch == before));
    assert!(decisions.iter().any(|d| d.reason.contains("not larger")));
}

#[test]
fn without_a_noise_scale_of_the_data_at_hand_the_batch_waits() {
    let mut controller = following(ROOT, Limits::up_to(1000));
    let (decisions, _) = train(&mut controller, &stage(1000), &mut |_, _| (1.0, None));
    assert!(decisions[1..].iter().all(|d| d.reason.contains("two micro-batches")));
    // The noise scale is known at the end of a stage, and is stale when the next one begins.
    let mut controller = following(ROOT, Limits::up_to(1000));
    let (first, _) = train(&mut controller, &stage(1000), &mut |_, b| (1.0, sample(16.0, b)));
    assert_eq!(growths(&first), 0);
    let next = StageInfo { index: 1, start_tokens: Tokens(8000), ..stage(1000) };
    let (second, _) = train(&mut controller, &next, &mut |_, b| (1.0, sample(1e4, b)));
    assert!(second[1].reason.contains("not yet that of this data"), "{}", second[1].reason);
    let grown = second.iter().find(|d| grows(d)).unwrap();
    // 2 % of the stage are 160 tokens: nothing happens before they have passed.
    assert!(grown.tokens_seen.0 >= 8160);
}

#[test]
fn a_noise_that_hides_the_gradient_makes_the_batch_wait() {
    let hidden =
        |batch| Some(NoiseSample { gradient_square: -0.1, noise_trace: 5.0, targets: batch });
    let mut controller = following(ROOT, Limits::up_to(1000));
    let (decisions, _) = train(&mut controller, &stage(1000), &mut |_, b| (1.0, hidden(b)));
    assert_eq!(growths(&decisions), 0);
    assert!(decisions.last().unwrap().reason.contains("hides"));
}

#[test]
fn a_law_of_the_loss_is_followed_down_and_not_up() {
    let law = LossLaw { coefficient_tokens: 64.0, exponent: 3.0 };
    let mut controller = following(Advisor::LossLaw(law), Limits::up_to(1000));
    let steps = 4000;
    let loss = |step: u64| if step < 1500 { 2.0 - step as f64 / 1500.0 } else { 3.0 };
    let (decisions, batches) = train(&mut controller, &stage(steps), &mut |s, _| (loss(s), None));
    assert!(batches.is_sorted() && *batches.last().unwrap() > 40);
    for growth in decisions.iter().filter(|d| grows(d)) {
        let advice = growth.advice.unwrap();
        let nats = advice.loss_nats.unwrap();
        assert!((advice.batch_tokens.unwrap() - 64.0 / nats.powi(3)).abs() < 1e-9);
        assert!(growth.to_sequences as f64 <= advice.batch_tokens.unwrap());
    }
}

#[test]
fn limits_hold_a_batch_that_follows() {
    let grown = |change: fn(&mut Limits)| {
        let mut limits = Limits::up_to(1000);
        change(&mut limits);
        let mut controller = following(ROOT, limits);
        let (decisions, batches) =
            train(&mut controller, &stage(1000), &mut |_, b| (1.0, sample(1e4, b)));
        (*batches.last().unwrap(), decisions.last().unwrap().guard)
    };
    assert_eq!(grown(|l| l.maximum_sequences = Some(19)), (19, Some(Guard::MaximumBatch)));
    assert_eq!(grown(|l| l.minimum_steps_left = 2000), (8, Some(Guard::StepsLeft)));
    let stable =
        |l: &mut Limits| l.stable_learning_rate = Some(2f64.sqrt() * 1.001 * LEARNING_RATE);
    assert_eq!(grown(stable), (16, Some(Guard::Stability)));
    let rest = |l: &mut Limits| l.minimum_tokens_between = Tokens(1 << 40);
    assert_eq!(grown(rest), (16, Some(Guard::TokensBetween)));
}

fn hybrid(advisor: Advisor, power: AdvisorPower) -> BatchController {
    let policy = BatchPolicy::Hybrid(Hybrid { plateau: quick(), advisor, power });
    BatchController::new(policy, 1, FIRST).unwrap()
}

#[test]
fn an_advisor_caps_forbids_or_allows_what_the_losses_ask_for() {
    let grown = |power, noise_scale: Option<f64>| {
        let mut controller = hybrid(ROOT, power);
        let mut noise = Noise::white(1);
        let (decisions, batches) = train(&mut controller, &stage(STEPS), &mut |_, batch| {
            (2.0 + SD * noise.next(), noise_scale.and_then(|scale| sample(scale, batch)))
        });
        (*batches.last().unwrap(), decisions.iter().find_map(|d| d.guard))
    };
    // The root of 4 · 36.5 is a little above twelve sequences.
    assert_eq!(grown(AdvisorPower::Cap, Some(36.5)), (12, Some(Guard::Advice)));
    assert_eq!(grown(AdvisorPower::Veto, Some(36.5)), (8, Some(Guard::Advice)));
    assert!(grown(AdvisorPower::Cap, Some(1e6)).0 >= 16);
    assert!(grown(AdvisorPower::Veto, Some(1e6)).0 >= 16);
    assert_eq!(grown(AdvisorPower::Cap, None), (8, Some(Guard::AdviceUnknown)));
}

#[test]
fn a_growth_is_predicted_from_the_noise_and_the_next_one_from_its_answer() {
    let steps = 20_000;
    let delta = 20.0 * resolvable(steps, SD, 0.2);
    let policy = BatchPolicy::Plateau(settings(delta, steps));
    let mut controller = BatchController::new(policy, 1, FIRST).unwrap();
    let begin = StageInfo { trained_parameters: Some(1_000_000), ..stage(steps) };
    // The floor goes with the root of the batch; it is half of what equal noise would give.
    let trace: f64 = 64.0;
    let strength = 0.25 * (1e6 * trace).sqrt() * 1e3;
    let (mut noise, mut excess) = (Noise::white(4), 1.0);
    let mut world = |_: u64, batch: u64| {
        let floor = 0.5 * strength * LEARNING_RATE / (batch as f64).sqrt();
        excess += (floor - excess) / 100.0;
        let said = NoiseSample { gradient_square: 1.0, noise_trace: trace * 1e6, targets: batch };
        (2.0 + excess + SD * noise.next(), Some(said))
    };
    let (decisions, _) = train(&mut controller, &begin, &mut world);
    let grown: Vec<&Decision> = decisions.iter().filter(|d| grows(d)).collect();
    let answers: Vec<Response> = decisions.iter().filter_map(|d| d.response).collect();
    assert!(grown.len() >= 2 && answers.len() >= 2, "{} {}", grown.len(), answers.len());

    let [first, second] = [grown[0].prediction.unwrap(), grown[1].prediction.unwrap()];
    let bound = strength * LEARNING_RATE * (8f64.sqrt().recip() - 4f64.recip());
    assert_eq!(first.basis, Some(PredictionBasis::NoiseFloor));
    assert!((first.drop.unwrap() / bound - 1.0).abs() < 1e-9);
    assert_eq!(second.basis, Some(PredictionBasis::EarlierAnswer));
    for (growth, answer) in grown.iter().zip(&answers) {
        let prediction = growth.prediction.unwrap();
        assert_eq!(answer.predicted_drop, prediction.drop);
        // The comparison is made where it was announced.
        assert!((answer.expected - prediction.unchanged_nats.unwrap()).abs() < 0.02);
        let least = prediction.detectable_drop.unwrap();
        assert!((answer.threshold * answer.standard_error / least - 1.0).abs() < 0.2);
        assert!(growth.window_steps_needed.unwrap() > 10);
    }
    let halved = answers[0].drop / first.drop.unwrap();
    assert!((0.4..0.6).contains(&halved), "{halved}");
    let carried = answers[1].drop / second.drop.unwrap();
    assert!((0.7..1.3).contains(&carried), "{carried}");
    let said = &decisions.iter().find(|d| d.response.is_some()).unwrap().reason;
    assert!(said.contains("predicted -"), "{said}");
}

#[test]
fn the_window_that_is_announced_shrinks_as_the_batch_grows() {
    let decisions = simulate(
        quick(),
        STEPS,
        {
            let mut noise = Noise::white(3);
            move |_, batch| 2.0 + SD * (FIRST as f64 / batch as f64).sqrt() * noise.next()
        },
        |_| false,
    );
    let windows: Vec<u64> = decisions.iter().filter_map(|d| d.window_steps_needed).collect();
    assert!(windows.len() >= 2 && windows.is_sorted_by(|a, b| a > b), "{windows:?}");
    assert!(decisions.iter().all(|d| d.window_steps_needed.is_some() == grows(d)));
}

#[test]
fn a_new_mix_settles_before_a_slope_is_looked_for() {
    let begin = StageInfo { settle_tokens: Tokens(80 * FIRST), ..stage(STEPS) };
    let mut controller = BatchController::new(BatchPolicy::Plateau(quick()), 1, FIRST).unwrap();
    controller.on_stage_start(begin);
    let mut noise = Noise::white(8);
    let mut looked = Vec::new();
    for step in 1..=400 {
        let sources = [SourceLoss { nats: (2.0 + SD * noise.next()) * 8.0, targets: 8 }];
        let decision = controller.observe(observation(step, step * FIRST, &sources));
        looked.extend(decision.filter(|d| d.evidence.is_some()).map(|d| d.step));
        if step == 200 {
            let change = controller.on_mix_change(&[1.0], Tokens(step * FIRST));
            assert_eq!((change.kind, change.tokens_seen), (DecisionKind::Mix, Tokens(1600)));
        }
    }
    assert!(looked.iter().any(|step| (80..=200).contains(step)));
    assert!(looked.iter().all(|step| !(201..=280).contains(step)), "{looked:?}");
    assert!(looked.iter().any(|step| *step > 280));
}

#[test]
fn a_coupled_rate_lowers_the_bound_of_stability() {
    let coupled = |learning_rate| {
        let settings = PlateauSettings {
            stable_learning_rate: Some(4.001 * LEARNING_RATE),
            maximum_sequences: Some(1 << 20),
            ..quick()
        };
        let coupling = Coupling { learning_rate, ..Coupling::default() };
        let controller = BatchController::new(BatchPolicy::Plateau(settings), 1, FIRST).unwrap();
        let mut controller = controller.with_coupling(coupling);
        let mut noise = Noise::white(1);
        let mut floor = 4.0;
        let (decisions, batches) = train(&mut controller, &stage(20 * STEPS), &mut |_, batch| {
            floor += (32.0 / batch as f64 - floor) / 10.0;
            (2.0 + floor + SD * noise.next(), None)
        });
        let factors = controller.factors();
        assert_eq!(
            factors.learning_rate,
            coupling.factors(controller.batch_sequences(), 8).learning_rate
        );
        (*batches.last().unwrap(), decisions.iter().any(|d| d.guard == Some(Guard::Stability)))
    };
    // The effective step is √(batch), batch, batch^1.5 over the first, and may be four times it.
    assert_eq!(coupled(LearningRateCoupling::Sqrt), (4 * FIRST, true));
    assert_eq!(coupled(LearningRateCoupling::Linear), ((8.0 * 4f64.powf(2.0 / 3.0)) as u64, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn saving_and_loading_changes_nothing_in_any_mode(
        seed in 0u64..1000, cuts in prop::collection::vec(0u64..500, 1..4),
    ) {
        let law = LossLaw { coefficient_tokens: 100.0, exponent: 3.0 };
        let limits = Limits::up_to(200);
        let hybrid = |advisor| Hybrid { plateau: quick(), advisor, power: AdvisorPower::Cap };
        let policies = [
            BatchPolicy::Fixed,
            BatchPolicy::Steps(vec![(Tokens(0), 8), (Tokens(900), 20)]),
            BatchPolicy::Ramp(Ramp { to_sequences: 30, tokens: Tokens(3000), increment_sequences: 2 }),
            BatchPolicy::Plateau(quick()),
            BatchPolicy::Following(Following { advisor: ROOT, limits }),
            BatchPolicy::Following(Following { advisor: Advisor::LossLaw(law), limits }),
            BatchPolicy::Hybrid(hybrid(ROOT)),
            BatchPolicy::Hybrid(hybrid(Advisor::LossLaw(law))),
        ];
        for policy in policies {
            let run = |cuts: &[u64]| {
                let mut controller = BatchController::new(policy.clone(), 1, FIRST).unwrap();
                controller.on_stage_start(stage(STEPS));
                let mut noise = Noise::white(seed);
                let (mut tokens, mut decisions) = (0, Vec::new());
                for step in 0..500 {
                    if cuts.contains(&step) {
                        let json = serde_json::to_string(controller.state()).unwrap();
                        let state: BatchControllerState = serde_json::from_str(&json).unwrap();
                        assert_eq!(&state, controller.state());
                        controller = controller.with_state(state);
                    }
                    let batch = controller.batch_sequences();
                    tokens += batch;
                    let loss = 2.0 + SD * noise.next();
                    let sources = [SourceLoss { nats: loss * batch as f64, targets: batch }];
                    let noise = sample(40.0 * (1.0 + loss), batch);
                    let seen = Observation { noise, ..observation(step + 1, tokens, &sources) };
                    decisions.extend(controller.observe(seen));
                }
                (decisions, controller.state().clone())
            };
            prop_assert_eq!(run(&[]), run(&cuts));
        }
    }

    #[test]
    fn factors_depend_on_the_batch_alone(seed in 0u64..100) {
        let coupling = Coupling {
            learning_rate: LearningRateCoupling::Sqrt,
            beta2: Beta2Coupling::ConstantHalfLife,
            weight_decay: WeightDecayCoupling::ConstantTimescale,
        };
        let controller = BatchController::new(BatchPolicy::Plateau(quick()), 1, FIRST).unwrap();
        let mut controller = controller.with_coupling(coupling);
        let mut noise = Noise::white(seed);
        train(&mut controller, &stage(STEPS), &mut |_, _| (2.0 + SD * noise.next(), None));
        prop_assert_eq!(controller.factors(), coupling.factors(controller.batch_sequences(), FIRST));
    }
}
