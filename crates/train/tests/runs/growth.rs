//! A run that dies around a growth that the controller decided from the measured loss.

use crate::world::{PEAK_FLOPS, World, lines, timeless};

/// A learning rate at which nothing moves, so that the loss is flat from the first step, and a
/// threshold far above what noise can hide: the batch grows after some fifty steps.
const FLAT: [(&str, &str); 13] = [
    ("optimizer.learning_rate", "1e-12"),
    ("optimizer.warmup_tokens", "0"),
    ("batch.mode", "\"plateau\""),
    ("batch.initial_tokens", "48"),
    ("batch.maximum_tokens", "96"),
    ("batch.plateau.nats_per_percent", "1.0"),
    ("batch.plateau.alpha", "0.4"),
    ("batch.plateau.minimum_steps_left", "2"),
    ("batch.plateau.cooldown_steps", "4"),
    ("checkpoint.every_steps", "1000"),
    ("checkpoint.keep_last", "2"),
    ("stages.0.budget_tokens", "4800"),
    ("validation.every_tokens", "0"),
];

#[test]
fn killed_around_a_growth_that_was_decided_is_never_killed() {
    let mut world = World::new().set(&FLAT);
    let straight = world.path("straight");
    let report = world.train(&straight, |_| {});
    let [growth] = &report.batch_growths[..] else { panic!("{:?}", report.batch_growths) };
    assert_eq!((growth.from_tokens.0, growth.to_tokens.0), (48, 96));
    assert!(growth.reason.contains("no longer falls"), "{}", growth.reason);

    for step in lines(&straight, "metrics.jsonl") {
        // Six operations for each of 2 (2·16·16 + 2·16·8 + 3·16·24) + 64·16 weights in products, and
        // for each of 2·16·16 of attention.
        let flops_per_token = 6.0 * (4864.0 + 512.0);
        let share = flops_per_token * step["tokens_per_second"].as_f64().unwrap() / PEAK_FLOPS;
        assert!((step["mfu"].as_f64().unwrap() / share - 1.0).abs() < 1e-9, "{step}");
    }

    let records = timeless(&straight);
    let grown = records.iter().position(|r| r.tokens_seen == growth.tokens_seen).unwrap();
    assert_eq!(records[grown].batch_tokens.0, 48);
    assert_eq!(records[grown + 1].batch_tokens.0, 96);
    let first_plateau = lines(&straight, "decisions.jsonl")
        .iter()
        .find(|decision| decision["verdict"] == "plateau")
        .map(|decision| decision["step"].as_u64().unwrap())
        .unwrap();
    let confirming = first_plateau + 1;
    assert!(confirming < records[grown].step, "one plateau was enough, of {first_plateau}");
    // A death while a plateau waits to be confirmed, before the growth, between it and its first step,
    // twice in the cooldown, behind it, and before the next decision.
    let around = [-1, 0, 1, 3, 5, 12].map(|after| records[grown].step.strict_add_signed(after));
    for step in [first_plateau, confirming].into_iter().chain(around) {
        world = world.set(&[("checkpoint.every_steps", &step.to_string())]);
        let (_, deaths) = world.train_and_die(&world.path(&format!("until-{step}")));
        let death = &deaths[0];
        let again = world.train(death, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), records, "{}", death.display());
        assert_eq!(again.batch_growths, report.batch_growths);
        let decisions = |run| lines(run, "decisions.jsonl");
        assert_eq!(decisions(death), decisions(&straight), "{}", death.display());
    }
}

#[test]
fn the_cooldown_of_the_run_file_reaches_the_decisions() {
    let after_growth = |cooldown: &str| {
        let world = World::new().set(&FLAT).set(&[("batch.plateau.cooldown_steps", cooldown)]);
        let run = world.path("run");
        let _ = world.train(&run, |_| {});
        let decisions = lines(&run, "decisions.jsonl");
        let growth = decisions.iter().position(|d| d["kind"] == "grow").unwrap();
        assert_eq!(decisions[growth]["cooldown_steps"].to_string(), cooldown);
        let steps = |place: usize| decisions[place]["step"].as_u64().unwrap();
        (steps(growth), steps(growth + 1))
    };
    let [(grown, soon), (also_grown, late)] = ["0", "15"].map(after_growth);
    assert_eq!(grown, also_grown);
    assert!(soon < late && late > grown + 15, "{grown} {soon} {late}");
}

#[test]
fn a_decaying_rate_grows_nothing_and_is_written_down() {
    // At a constant rate the growth comes after some fifty of the first stage's hundred steps.
    let run = |share: &str| {
        let decay = format!("{{ share = {share} }}");
        let world = World::new().set(&FLAT).set(&[("stages.0.decay", &decay)]);
        let run = world.path("run");
        let report = world.train(&run, |_| {});
        (timeless(&run), lines(&run, "decisions.jsonl"), report.batch_growths.len())
    };
    let (records, decisions, growths) = run("1.0");
    assert_eq!(growths, 0);
    let falls = |d: &&serde_json::Value| d["reason"].as_str().unwrap().contains("rate falls");
    let [fall] = decisions.iter().filter(falls).collect::<Vec<_>>()[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!((fall["kind"].as_str(), fall["tokens_seen"].as_u64()), (Some("hold"), Some(48)));
    let stage: Vec<f64> =
        records.iter().filter(|r| r.stage == "one").map(|r| r.learning_rate).collect();
    assert_eq!(stage[0], 1e-12);
    assert!(stage.windows(2).all(|pair| pair[0] > pair[1]) && *stage.last().unwrap() > 0.0);
    assert!((stage.last().unwrap() / 1e-12 - 0.01).abs() < 1e-9, "a hundred steps: {stage:?}");
    let second = records.iter().filter(|r| r.stage == "two");
    assert!(second.clone().count() > 0 && second.clone().all(|r| r.learning_rate == 1e-12));

    let (records, decisions, growths) = run("0.2");
    assert_eq!(growths, 1, "at the constant rate before");
    let start = 4800 - 960;
    assert!(records.iter().all(|r| {
        let began = r.tokens_seen.0 - r.batch_tokens.0;
        (r.learning_rate < 1e-12) == (r.stage == "one" && began > start)
    }));
    let first_stage = decisions.iter().filter(|d| d["stage"] == 0);
    let behind = first_stage.filter(|d| d["tokens_seen"].as_u64().unwrap() > start + 96);
    assert_eq!(behind.count(), 0, "no look behind its beginning: {decisions:?}");
}
