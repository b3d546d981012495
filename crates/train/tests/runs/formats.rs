//! States in other number formats, and gradients that are given up at once.

use std::fs;

use serde_json::Value;
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_model::hf;
use terrace_train::{Error, StopFlag, load_weights};

use crate::bad_steps::{poisoned, state};
use crate::world::{World, lines, newest_checkpoint, timeless};

/// Matrices of 4096 elements and more, whose moments may have eight bits.
const WIDE: [(&str, &str); 2] =
    [("model.architecture.hidden_size", "64"), ("model.architecture.intermediate_size", "96")];

/// What a run needs that gives gradients up.
const RELEASE: [(&str, &str); 4] = [
    ("training.gradient_release", "true"),
    ("training.gradient_clipping", "\"per-layer\""),
    ("spikes.policy", "\"rewind\""),
    ("spikes.rewind_after_steps", "1"),
];

fn format<'a>(precision: &'a str, moments: &'a str) -> [(&'static str, &'a str); 2] {
    [("training.precision", precision), ("optimizer.moments", moments)]
}

#[test]
fn a_state_in_any_format_is_resumed_bit_for_bit() {
    let all: [(_, &[(&str, &str)]); 6] = [
        (format("\"bf16-mixed\"", "\"f32\""), &[]),
        (format("\"bf16-mixed\"", "\"8-bit\""), &RELEASE),
        (format("\"bf16\"", "\"bf16\""), &[]),
        (format("\"bf16\"", "\"8-bit\""), &[]),
        (format("\"bf16\"", "\"8-bit\""), &RELEASE),
        (format("\"f32\"", "\"8-bit\""), &[("training.gradient_clipping", "\"previous-norm\"")]),
    ];
    let mut digests = Vec::new();
    for (number, (format, more)) in all.into_iter().enumerate() {
        let world = World::new().set(&WIDE).set(&format).set(more);
        let [straight, broken] = ["straight", "broken"].map(|name| world.path(name));
        let report = world.train(&straight, |_| {});
        assert!(report.complete);
        for step in [3, 9, 17] {
            assert!(!world.train_until(&broken, step).complete);
        }
        let again = world.train(&broken, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{number}");
        assert_eq!(timeless(&broken), timeless(&straight), "{number}");
        digests.push(report.state_digest);
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 6, "each format makes another run");
}

#[test]
fn giving_gradients_up_changes_no_bit_of_a_run() {
    for clipping in ["\"per-layer\"", "\"previous-norm\""] {
        let run = |release| {
            let world = World::new().set(&WIDE).set(&format("\"bf16\"", "\"8-bit\"")).set(&[
                ("training.gradient_release", release),
                ("training.gradient_clipping", clipping),
                ("training.gradient_norm_max", "0.1"),
                ("spikes.policy", "\"rewind\""),
                ("spikes.rewind_after_steps", "1"),
            ]);
            let straight = world.path("straight");
            (world.train(&straight, |_| {}).state_digest, timeless(&straight))
        };
        let (kept, released) = (run("false"), run("true"));
        assert!(kept.1.iter().all(|record| record.gradient_norm > 0.1), "all are clipped");
        assert_eq!(kept, released, "{clipping}");
    }
}

#[test]
fn every_format_learns() {
    let loss = |precision, moments| {
        let world = World::new().set(&WIDE).set(&format(precision, moments));
        let straight = world.path("straight");
        world.train(&straight, |_| {});
        let records = timeless(&straight);
        let mean = |records: &[terrace_train::StepRecord]| {
            records.iter().map(|record| record.nats).sum::<f64>() / records.len() as f64
        };
        [mean(&records[..3]), mean(&records[records.len() - 3..])]
    };
    let [begin, exact] = loss("\"f32\"", "\"f32\"");
    assert!(exact < begin - 0.3, "{begin} {exact}");
    for (precision, moments) in
        [("\"bf16-mixed\"", "\"f32\""), ("\"bf16\"", "\"bf16\""), ("\"bf16\"", "\"8-bit\"")]
    {
        let [_, end] = loss(precision, moments);
        assert!((end - exact).abs() < 0.1, "{precision} {moments}: {end}, exact {exact}");
    }
}

#[test]
fn weights_of_any_format_are_read_as_f32() {
    let world = World::new().set(&WIDE).set(&format("\"bf16\"", "\"8-bit\""));
    let run = world.path("run");
    world.train(&run, |_| {});
    let checkpoint = Checkpoint::open(&newest_checkpoint(&run)).unwrap();
    let segment = checkpoint.segment(1).unwrap();
    let (codes, shape) = segment
        .bytes("exp_avg.model.layers.0.self_attn.q_proj.weight", terrace_base::Dtype::U8)
        .unwrap();
    assert_eq!((codes.len(), shape), (4096, &[16, 256][..]));
    let device = burn::tensor::Device::flex();
    let config = world.loaded(&run).config;
    let model = load_weights(&config, &RunLayout::new(&run), &checkpoint, &device).unwrap();
    let folder = world.path("exported");
    fs::create_dir(&folder).unwrap();
    hf::save(&model, &folder, hf::SaveOptions::default()).unwrap();
    let read = hf::load(&folder, &device).unwrap();
    let values = |model: &terrace_model::CausalLm| -> Vec<f32> {
        model.layers[0].q_proj.clone().into_data().try_to_vec().unwrap()
    };
    assert_eq!(values(&model), values(&read));
    assert!(values(&read).iter().all(|value| value.to_bits() & 0xffff == 0), "they are bf16");
}

#[test]
fn a_state_that_was_lost_is_gone_back_for() {
    let world = poisoned().set(&RELEASE).set(&[("spikes.max_rewinds", "20")]);
    let straight = world.path("straight");
    let report = world.train(&straight, |_| {});
    assert!(report.complete);
    assert_eq!(report.tokens_seen.0, 1440, "what is passed over counts as seen");
    let journal = lines(&straight, "journal.jsonl");
    let count = |event: &str| journal.iter().filter(|line| line["event"] == event).count();
    assert!(count("rewind") >= 2, "{journal:?}");
    assert_eq!(count("bad_step"), count("rewind"), "at once, each time");
    let records = timeless(&straight);
    assert!(records.iter().all(|record| record.nats.is_finite()));
    // Killed after the second rewind, and anywhere else, it is never killed.
    let died = world.path("died");
    for step in [5, 11] {
        assert!(!world.train_until(&died, step).complete);
    }
    assert_eq!(world.train(&died, |_| {}).state_digest, report.state_digest);
    assert_eq!(timeless(&died), records);
    let passed: Vec<[u64; 2]> = serde_json::from_value(
        state(&newest_checkpoint(&straight))["spikes"]["passed_over"].clone(),
    )
    .unwrap();
    assert_eq!(passed.len(), count("rewind"));
}

#[test]
fn a_lost_state_is_never_saved() {
    let rewinds = [("spikes.max_rewinds", "0"), ("spikes.lead_steps", "0")];
    let world = poisoned().set(&RELEASE).set(&rewinds);
    let run = world.path("run");
    let error = *world.attempt(&run, |_| {}).map(drop).unwrap_err();
    let Error::Lost { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("spikes.max_rewinds = 0"), "{reason}");
    let newest = newest_checkpoint(&run);
    assert!(reason.contains(newest.to_str().unwrap()), "{reason}");
    let bad: Vec<Value> =
        lines(&run, "journal.jsonl").into_iter().filter(|l| l["event"] == "bad_step").collect();
    assert_eq!(bad.len(), 1);
    let device = burn::tensor::Device::flex();
    let (config, layout) = (world.loaded(&run).config, RunLayout::new(&run));
    let model =
        load_weights(&config, &layout, &Checkpoint::open(&newest).unwrap(), &device).unwrap();
    let values: Vec<f32> = model.layers[1].q_proj.clone().into_data().try_to_vec().unwrap();
    assert!(values.iter().all(|value| value.is_finite()));
}

#[test]
fn a_checkpoint_of_another_format_is_refused_by_name() {
    let world = World::new().set(&WIDE).set(&format("\"bf16\"", "\"8-bit\""));
    let run = world.path("run");
    let _ = world.train_until(&run, 3);
    let exact = world.set(&format("\"bf16\"", "\"f32\""));
    let error = exact.job(
        &run,
        StopFlag::default(),
        |_| {},
        |job| terrace_train::resume(job).map(drop).expect_err("the moments are codes"),
    );
    assert!(error.to_string().contains("exp_avg."), "{error}");
    assert!(error.to_string().contains("expected F32"), "{error}");
}
