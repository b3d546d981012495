//! Runs of every mode of the batch, with and without a death, and what they record.

use terrace_train::StepRecord;

use crate::world::{World, lines, timeless};

type Values<'a> = &'a [(&'a str, &'a str)];

/// One stage of 75 sequences that begins with three in a batch, in two micro-batches.
const SHORT: Values<'_> = &[
    ("batch.initial_tokens", "48"),
    ("batch.maximum_tokens", "192"),
    ("batch.half_life_tokens", "96"),
    ("batch.plateau.minimum_steps_left", "1"),
    ("stages.0.budget_tokens", "1200"),
    ("stages.1.budget_tokens", "320"),
    ("validation.every_tokens", "0"),
];

/// A loss that is flat from the first step, and a plateau test that sees it within the stage.
const FLAT: Values<'_> = &[
    ("optimizer.learning_rate", "1e-12"),
    ("optimizer.warmup_tokens", "0"),
    ("batch.plateau.nats_per_percent", "1.0"),
    ("batch.plateau.alpha", "0.4"),
    ("batch.plateau.cooldown_steps", "4"),
    ("stages.0.budget_tokens", "9600"),
];

const COUPLED: Values<'_> = &[
    ("batch.coupling.learning_rate", "\"sqrt\""),
    ("batch.coupling.beta2", "\"constant-half-life\""),
    ("batch.coupling.weight_decay", "\"constant-timescale\""),
];

/// Trains straight through, and again from five deaths; gives the records.
fn survives(sections: &[Values<'_>]) -> (World, Vec<StepRecord>, Vec<serde_json::Value>) {
    let world = sections.iter().fold(World::new().set(SHORT), |world, values| world.set(values));
    let straight = world.path("straight");
    let (report, deaths) = world.train_and_die(&straight);
    let records = timeless(&straight);
    let decisions = lines(&straight, "decisions.jsonl");
    let grown = decisions.iter().find(|d| d["kind"] == "grow").expect("the batch grows");
    let grown = grown["step"].as_u64().unwrap() as usize;
    // Around the first growth, and towards the end; the deaths are one after each step.
    for place in [1, grown - 1, grown, grown + 1, deaths.len() - 3] {
        let death = &deaths[place];
        let again = world.train(death, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), records, "{}", death.display());
        assert_eq!(lines(death, "decisions.jsonl"), decisions, "{}", death.display());
    }
    (world, records, decisions)
}

fn batches(records: &[StepRecord], stage: &str) -> Vec<u64> {
    records.iter().filter(|r| r.stage == stage).map(|r| r.batch_tokens.0).collect()
}

#[test]
fn a_ramp_couples_the_optimizer_and_survives_a_death() {
    let ramp: Values<'_> = &[("batch.mode", "\"ramp\""), ("batch.ramp_tokens", "600")];
    let ramp = [ramp, COUPLED, &[("optimizer.warmup_tokens", "0")]];
    let (_, records, _) = survives(&ramp);
    let found = batches(&records, "one");
    assert!(found[..found.len() - 1].is_sorted() && found[0] == 48 && found.contains(&192));
    for record in records.iter().filter(|r| r.batch_tokens.0 == 192) {
        assert!(
            (record.learning_rate - 2.0 * 3e-3).abs() < 1e-12,
            "the root of four times the batch"
        );
    }
    assert!((records[0].learning_rate - 3e-3).abs() < 1e-12);
}

#[test]
fn the_noise_scale_is_recorded_followed_and_survives_a_death() {
    let mode: Values<'_> = &[
        ("batch.mode", "\"gns-sqrt\""),
        // So dear a step asks for the largest batch, whatever the noise scale of so small a model.
        ("batch.step_cost_tokens", "1000000000"),
    ];
    let (_, records, decisions) = survives(&[mode]);
    // The last step of a stage may be a single micro-batch of two sequences.
    for record in records.iter().filter(|record| record.batch_tokens.0 > 32) {
        let sample = record.noise_sample.expect("two micro-batches");
        assert_eq!(sample.targets, record.target_tokens);
        assert!(record.noise_trace.is_some() && record.noise_gradient_square.is_some());
        let scale = record.noise_trace.unwrap().max(0.0) / record.noise_gradient_square.unwrap();
        assert_eq!(record.noise_scale, (scale >= 0.0).then_some(scale));
    }
    let grown: Vec<_> = decisions.iter().filter(|d| d["kind"] == "grow").collect();
    for growth in grown {
        let advised = growth["advice"]["batch_tokens"].as_f64().unwrap();
        assert!(growth["to_sequences"].as_u64().unwrap() as f64 * 16.0 <= advised);
        assert!(growth["noise"]["targets"].as_f64().is_some());
        assert_eq!(growth["prediction"]["basis"], "noise_floor");
    }
}

#[test]
fn to_measure_the_noise_changes_no_number_of_the_run() {
    let world = World::new();
    let measured = world.path("measured");
    let _ = world.train(&measured, |_| {});
    let world = world.set(&[("batch.noise_scale", "false")]);
    let quiet = world.path("quiet");
    let _ = world.train(&quiet, |_| {});
    let of = |run| timeless(run).into_iter().map(|r| (r.nats, r.gradient_norm)).collect::<Vec<_>>();
    assert_eq!(of(&measured), of(&quiet));
    assert!(timeless(&measured).iter().any(|r| r.noise_sample.is_some()));
    assert!(timeless(&quiet).iter().all(|r| r.noise_sample.is_none() && r.noise_trace.is_none()));
    let line = &lines(&quiet, "metrics.jsonl")[0];
    assert!(line["noise_scale"].is_null() && line.get("noise_scale").is_some());
}

#[test]
fn a_law_of_the_loss_is_followed_and_survives_a_death() {
    let mode: Values<'_> = &[
        ("batch.mode", "\"loss-law\""),
        // A loss of 4.16 nats, that of chance, asks for 96 tokens.
        ("batch.loss_law.coefficient_tokens", "400.0"),
        ("batch.loss_law.exponent", "1.0"),
    ];
    let (_, records, decisions) = survives(&[mode]);
    let found = batches(&records, "one");
    assert!(found.iter().max().unwrap() >= &96, "{found:?}");
    for growth in decisions.iter().filter(|d| d["kind"] == "grow") {
        let nats = growth["advice"]["loss_nats"].as_f64().unwrap();
        let advised = growth["advice"]["batch_tokens"].as_f64().unwrap();
        assert!((advised - 400.0 / nats).abs() < 1e-9 && (1.0..5.0).contains(&nats));
    }
}

#[test]
fn a_hybrid_is_capped_by_its_advisor_and_survives_a_death() {
    let mode: Values<'_> = &[
        ("batch.mode", "\"hybrid\""),
        ("batch.advisor", "\"loss-law\""),
        // Five sequences at the loss of chance, where a doubling would give six.
        ("batch.loss_law.coefficient_tokens", "345.0"),
        ("batch.loss_law.exponent", "1.0"),
    ];
    let (_, records, decisions) = survives(&[mode, FLAT]);
    assert_eq!(batches(&records, "one").iter().max(), Some(&80));
    let growth = decisions.iter().find(|d| d["kind"] == "grow").unwrap();
    assert_eq!((&growth["from_sequences"], &growth["to_sequences"]), (&3.into(), &5.into()));
    assert!(growth["evidence"]["statistic"].as_f64() > growth["evidence"]["threshold"].as_f64());
    assert!(growth["prediction"]["unchanged_nats"].as_f64().is_some());
    assert!(growth["prediction"]["detectable_drop"].as_f64().unwrap() > 0.0);
    assert!(growth["window_steps_needed"].as_u64().is_some());
    let answer = decisions.iter().find(|d| !d["response"].is_null()).expect("an answer");
    assert_eq!(answer["response"]["predicted_drop"], growth["prediction"]["drop"]);
}
