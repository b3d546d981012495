use proptest::prelude::*;
use terrace_base::Seed;

use super::*;

const BATCH: u64 = 8;

fn settings(policy: SpikePolicy) -> SpikeSettings {
    SpikeSettings { policy, ..SpikeSettings::default() }
}

/// The step of this number, of a whole batch.
fn step(number: u64, nats: f64, gradient_norm: f64) -> StepLoss {
    let start = number * BATCH;
    StepLoss { start, end: start + BATCH, batch_sequences: BATCH, nats, gradient_norm }
}

/// A run at rest: noise of the given size around 2 nats.
fn calm(watch: &mut SpikeWatch, settings: &SpikeSettings, steps: std::ops::Range<u64>, sd: f64) {
    let noise = Seed(7).stream("losses");
    for number in steps {
        let nats = 2.0 + sd * noise.normal(2 * number);
        let norm = (0.2 * noise.normal(2 * number + 1)).exp();
        let verdict = watch.judge(settings, &step(number, nats, norm));
        assert_eq!(verdict, Verdict { evidence: None, action: Action::Apply }, "step {number}");
    }
}

#[test]
fn noise_is_no_spike() {
    let settings = settings(SpikePolicy::Record);
    // Large enough for the least rise not to hide a mistake.
    calm(&mut SpikeWatch::default(), &settings, 0..20_000, 0.05);
}

#[test]
fn a_descent_is_no_spike_and_a_rise_out_of_it_is() {
    let settings = settings(SpikePolicy::Record);
    let mut watch = SpikeWatch::default();
    let noise = Seed(8).stream("descent");
    let loss = |n: u64| 2.0 + 8.0 / (1.0 + n as f64 / 20.0) + 0.02 * noise.normal(n);
    for number in 0..2000 {
        let verdict = watch.judge(&settings, &step(number, loss(number), 1.0));
        assert_eq!(verdict.evidence, None, "step {number}");
    }
    let verdict = watch.judge(&settings, &step(2000, loss(2000) + 0.5, 1.0));
    let evidence = verdict.evidence.expect("half a nat is twenty-five deviations");
    assert_eq!((evidence.signal, evidence.window_steps), (Signal::Loss, 128));
    assert!(evidence.score.unwrap() > settings.threshold && evidence.value > evidence.limit);
    assert_eq!(verdict.action, Action::Apply, "it is only written down");
}

#[test]
fn gradients_spike_too_and_what_is_small_does_not() {
    let settings = settings(SpikePolicy::Skip);
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..200, 1e-4);
    // A hundred deviations, but a hundredth of a nat.
    let quiet = watch.judge(&settings, &step(200, 2.01, 1.0));
    assert_eq!(quiet.action, Action::Apply);
    let verdict = watch.judge(&settings, &step(201, 2.0, 40.0));
    assert_eq!(verdict.action, Action::Withhold);
    assert_eq!(verdict.evidence.unwrap().signal, Signal::LogGradientNorm);
    // A small gradient or a low loss is none.
    assert_eq!(watch.judge(&settings, &step(202, 0.1, 1e-6)).action, Action::Apply);
}

#[test]
fn one_spike_does_not_hide_the_next() {
    let settings = settings(SpikePolicy::Record);
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..100, 0.01);
    let spikes = (100..120).filter(|number| {
        let nats = if number % 3 == 0 { 1e6 } else { 2.0 };
        watch.judge(&settings, &step(*number, nats, 1.0)).evidence.is_some()
    });
    assert_eq!(spikes.count(), 6);
}

#[test]
fn a_level_that_stays_becomes_the_level_where_spikes_are_only_written_down() {
    let settings = settings(SpikePolicy::Record);
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..200, 0.01);
    let spikes = (200..400)
        .filter(|number| watch.judge(&settings, &step(*number, 3.0, 1.0)).evidence.is_some());
    let spikes = spikes.count();
    assert!((1..=128).contains(&spikes), "{spikes}");
}

#[test]
fn nothing_is_judged_before_a_quarter_of_the_window_or_behind_a_new_baseline() {
    let settings = settings(SpikePolicy::Skip);
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..31, 0.01);
    assert_eq!(watch.judge(&settings, &step(31, 9.0, 1.0)).evidence, None);
    assert_eq!(watch.judge(&settings, &step(32, 9.0, 1.0)).action, Action::Withhold);
    // The batch grew: a gradient norm that is a third of what it was is the new level.
    watch.rebaseline();
    for number in 33..65 {
        assert_eq!(watch.judge(&settings, &step(number, 4.0, 0.3)).action, Action::Apply);
    }
    assert_eq!(watch.judge(&settings, &step(65, 4.0, 1.0)).action, Action::Withhold);
}

#[test]
fn a_short_step_may_be_noisier() {
    let settings = settings(SpikePolicy::Skip);
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..200, 0.05);
    let limit = watch.judge(&settings, &step(200, 9.0, 1.0)).evidence.unwrap().limit;
    let short = StepLoss { end: 200 * BATCH + 2, ..step(200, limit + 0.01, 1.0) };
    assert_eq!(watch.judge(&settings, &short).action, Action::Apply);
    let verdict = watch.judge(&settings, &StepLoss { nats: 9.0, ..short });
    // A quarter of the batch, twice the noise.
    let evidence = verdict.evidence.unwrap();
    let reach = |limit: f64| limit - evidence.median;
    assert!((reach(evidence.limit) / reach(limit) - 2.0).abs() < 1e-9);
}

#[test]
fn the_run_goes_back_when_a_spike_lasts() {
    let settings = settings(SpikePolicy::Rewind);
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..100, 0.01);
    let good = watch.clone();
    // Two spiking steps and a calm one: nothing lasts.
    let act = |watch: &mut SpikeWatch, number: u64, nats: f64| {
        watch.judge(&settings, &step(number, nats, 1.0)).action
    };
    assert_eq!(act(&mut watch, 100, 9.0), Action::Withhold);
    assert_eq!(watch.needs_state_before(), Some(99 * BATCH));
    assert_eq!(act(&mut watch, 101, 9.0), Action::Withhold);
    assert_eq!(act(&mut watch, 102, 2.0), Action::Apply);
    assert_eq!(watch.needs_state_before(), None);
    // Three in a row, one of them not even finite.
    assert_eq!(act(&mut watch, 103, 9.0), Action::Withhold);
    assert_eq!(watch.not_finite(&settings, [104 * BATCH, 105 * BATCH]), Action::Withhold);
    let Action::Rewind(rewind) = act(&mut watch, 105, 9.0) else { panic!("it lasts") };
    let expected =
        Rewind { began: 103 * BATCH, skip_start: 102 * BATCH, skip_end: 106 * BATCH, rewinds: 1 };
    assert_eq!(rewind, expected);
    let mut back = good;
    back.rewound(&watch, &rewind);
    assert_eq!((back.rewinds(), back.needs_state_before()), (1, None));
    assert_eq!(back.passed_over(), [[102 * BATCH, 106 * BATCH]]);
    // It still knows the losses before the spike.
    assert_eq!(act(&mut back, 200, 9.0), Action::Withhold);
}

#[test]
fn it_gives_up_after_the_last_rewind() {
    let settings =
        SpikeSettings { rewind_after_steps: 1, max_rewinds: 2, ..settings(SpikePolicy::Rewind) };
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..100, 0.01);
    let mut actions = Vec::new();
    for number in 100..103 {
        let action = watch.judge(&settings, &step(number, 9.0, 1.0)).action;
        if let Action::Rewind(rewind) = action {
            let given_up = watch.clone();
            watch.rewound(&given_up, &rewind);
        }
        actions.push(action);
    }
    let counts = actions.iter().map(|action| match action {
        Action::Rewind(rewind) => (true, rewind.rewinds),
        Action::GiveUp(rewind) => (false, rewind.rewinds),
        other => panic!("{other:?}"),
    });
    assert_eq!(counts.collect::<Vec<_>>(), [(true, 1), (true, 2), (false, 3)]);
    // A new baseline does not forget how often the run has gone back.
    watch.rebaseline();
    assert_eq!(watch.rewinds(), 2);
}

#[test]
fn off_and_record_change_nothing() {
    for policy in [SpikePolicy::Off, SpikePolicy::Record] {
        let settings = settings(policy);
        let mut watch = SpikeWatch::default();
        calm(&mut watch, &settings, 0..100, 0.01);
        let verdict = watch.judge(&settings, &step(100, 1e9, 1e9));
        assert_eq!(verdict.action, Action::Apply);
        assert_eq!(verdict.evidence.is_some(), policy == SpikePolicy::Record);
        assert_eq!(watch.not_finite(&settings, [0, 1]), Action::Withhold);
    }
}

prop_compose! {
    /// A step that may be calm, spiking, short or not finite.
    fn any_step()(kind in 0..12u8, noise in -1.0f64..1.0, short in prop::bool::weighted(0.1)) -> (Option<f64>, bool) {
        match kind {
            0 => (Some(50.0 + noise), short),
            1 => (None, short),
            _ => (Some(2.0 + 0.1 * noise), short),
        }
    }
}

proptest! {
    /// Killed anywhere and read back from JSON, the verdicts are those of a watch that lived on; and
    /// whatever it says to pass over is what it has seen.
    #[test]
    fn verdicts_survive_json_and_name_what_was_seen(
        steps in prop::collection::vec(any_step(), 1..120),
        window_steps in 1usize..40,
        rewind_after_steps in 1u32..4,
        lead_steps in 0usize..4,
        policy in prop::sample::select(vec![SpikePolicy::Record, SpikePolicy::Skip, SpikePolicy::Rewind]),
    ) {
        let settings = SpikeSettings {
            window_steps, rewind_after_steps, lead_steps, policy, max_rewinds: 3,
            ..SpikeSettings::default()
        };
        let (mut lives, mut dies) = (SpikeWatch::default(), SpikeWatch::default());
        let mut at = 0;
        for (nats, short) in steps {
            let end = at + if short { 3 } else { BATCH };
            let act = |watch: &mut SpikeWatch| match nats {
                Some(nats) => {
                    let whole = StepLoss { start: at, end, batch_sequences: BATCH, nats, gradient_norm: 1.0 };
                    watch.judge(&settings, &whole)
                }
                None => Verdict { evidence: None, action: watch.not_finite(&settings, [at, end]) },
            };
            let verdict = act(&mut lives);
            prop_assert_eq!(verdict, act(&mut dies));
            if let Action::Rewind(rewind) | Action::GiveUp(rewind) = verdict.action {
                prop_assert_eq!(policy, SpikePolicy::Rewind);
                prop_assert!(rewind.skip_start <= rewind.began && rewind.began < rewind.skip_end);
                prop_assert_eq!(rewind.skip_end, end);
                prop_assert_eq!(rewind.rewinds, lives.rewinds() + 1);
                let given_up = lives.clone();
                lives.rewound(&given_up, &rewind);
                dies.rewound(&given_up, &rewind);
            }
            dies = serde_json::from_str(&serde_json::to_string(&dies).unwrap()).unwrap();
            prop_assert_eq!(&dies, &lives);
            at = end;
        }
    }
}

#[test]
fn a_lost_state_is_gone_back_for_at_once() {
    let settings = SpikeSettings { max_rewinds: 1, ..settings(SpikePolicy::Rewind) };
    let mut watch = SpikeWatch::default();
    calm(&mut watch, &settings, 0..10, 0.05);
    let span = [10 * BATCH, 11 * BATCH];
    let Action::Rewind(rewind) = watch.lost(&settings, span) else {
        panic!("three are not needed")
    };
    assert_eq!(rewind.began, 10 * BATCH);
    assert_eq!([rewind.skip_start, rewind.skip_end], [9 * BATCH, 11 * BATCH]);
    let mut before = SpikeWatch::default();
    before.rewound(&watch, &rewind);
    assert!(matches!(before.lost(&settings, [20, 28]), Action::GiveUp(_)));
}
