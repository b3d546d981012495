//! A small run from its file to its inspection, through the whole command.

use std::path::Path;

use crate::support::{files_below, flip_a_bit, small_run, terrace_in};
use serde_json::Value;

const RUN: &str = r#"
name = "small"
training.recompute = "none"
[batch]
mode = "fixed"
initial_tokens = 128
[checkpoint]
every_tokens = 1024
[validation]
sequences_per_source = 4
[[stages]]
name = "one"
budget_tokens = 2048
mixture = { apples = 0.7, pears = 0.3 }
[[stages]]
name = "two"
budget_tokens = 1024
mixture = { apples = 0.2, pears = 0.8 }
"#;

/// Trains the small run in a folder; its sources are prepared on the way.
fn train(home: &Path) -> Value {
    small_run(home, RUN);
    terrace_in(home, ["train", "run.toml", "--json"]).expect_code(0).json()
}

#[test]
fn a_run_is_described_and_its_mixture_is_exact() {
    let home = tempfile::tempdir().unwrap();
    let report = train(home.path());
    assert_eq!(report["tokens_seen"], 3072);

    let run = terrace_in(home.path(), ["inspect", "run", "--json"]).expect_code(0).json();
    assert_eq!(run["kind"], "run");
    assert_eq!(run["verified"], true);
    assert_eq!(run["complete"], true);
    assert_eq!(run["state_digest"], report["state_digest"]);
    let stages = run["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2, "{run}");
    for (stage, tokens, apples) in [(&stages[0], 2048, 0.7), (&stages[1], 1024, 0.2)] {
        let mixture = stage["mixture"].as_object().unwrap();
        let drawn: u64 = mixture.values().map(|source| source["tokens"].as_u64().unwrap()).sum();
        assert_eq!(drawn, tokens, "{stage}");
        assert!((mixture["apples"]["target_share"].as_f64().unwrap() - apples).abs() < 1e-12);
        for source in mixture.values() {
            assert!(source["deviation_sequences"].as_f64().unwrap().abs() < 1.0, "{stage}");
        }
    }
    let outcome = terrace_in(home.path(), ["inspect", "run"]).expect_code(0);
    assert!(outcome.stderr.contains("pears"), "{outcome}");
}

#[test]
fn a_damaged_checkpoint_is_found_in_the_run_and_by_itself() {
    let home = tempfile::tempdir().unwrap();
    train(home.path());
    let checkpoints = home.path().join("run/checkpoints");
    let segment = files_below(&checkpoints, ".safetensors").pop().unwrap();
    flip_a_bit(&segment);
    let run = terrace_in(home.path(), ["inspect", "run", "--json"]).expect_code(1).json();
    assert_eq!(run["verified"], false);
    assert_eq!(
        run["problems"][0]["file"],
        segment.strip_prefix(home.path()).unwrap().to_str().unwrap()
    );
    // The newest is damaged: the one before it speaks for the run.
    assert_eq!(run["tokens_seen"], 2048);
    let listed = run["checkpoints"].as_array().unwrap();
    assert_eq!(listed.last().unwrap()["valid"], false);
    assert!(listed.iter().rev().skip(1).all(|checkpoint| checkpoint["valid"] == true), "{run}");

    let damaged = segment.parent().unwrap();
    let arguments = [Path::new("inspect"), damaged];
    let outcome = terrace_in(home.path(), arguments).expect_code(1);
    assert!(outcome.stderr.contains("segment-"), "{outcome}");
    let sound = files_below(&checkpoints, "manifest.json").remove(0);
    let arguments = [Path::new("inspect"), &sound, Path::new("--json")];
    let checkpoint = terrace_in(home.path(), arguments).expect_code(0).json();
    assert_eq!(checkpoint["kind"], "checkpoint");
    assert_eq!(checkpoint["stage"], "one");
}

#[test]
fn a_run_that_diverges_stops_with_an_intact_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    small_run(home.path(), RUN);
    // The first step throws the weights so far that no loss is finite after it.
    let set = ["optimizer.learning_rate=1e30", "training.max_consecutive_bad_steps=2"];
    let arguments = ["train", "run.toml", "--json", "--set", set[0], "--set", set[1]];
    let stopped = terrace_in(home.path(), arguments).expect_code(1);
    let error = stopped.json();
    assert_eq!(error["error"]["kind"], "gate_failed");
    assert!(error.to_string().contains("2 steps in a row"), "{error}");

    // Each of the two steps names its windows, in the journal and to whoever watches.
    let bad_steps = || {
        let text = std::fs::read_to_string(home.path().join("run/journal.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == "bad_step").collect::<Vec<_>>()
    };
    let bad = bad_steps();
    assert_eq!(bad.len(), 2);
    for window in bad.iter().flat_map(|line| line["details"]["windows"].as_array().unwrap()) {
        let (source, edition) = (window["source"].as_str().unwrap(), &window["edition"]);
        let name = format!("{source}/{}", window["window"]);
        assert!(["apples", "pears"].contains(&source) && edition.is_string(), "{window}");
        assert!(stopped.stderr.contains(&name), "{name} is not in {stopped}");
    }

    let run = terrace_in(home.path(), ["inspect", "run", "--json"]).expect_code(0).json();
    assert_eq!((&run["verified"], &run["complete"]), (&Value::from(true), &Value::from(false)));
    // It goes on behind the bad windows, and finds the next to be bad as well.
    let resumed = terrace_in(home.path(), ["resume", "run"]).expect_code(1);
    assert!(resumed.stderr.contains("resuming at"), "{resumed}");
    assert_eq!(bad_steps().len(), 3);
}

#[test]
fn a_timeline_shows_where_the_time_of_a_step_goes() {
    let home = tempfile::tempdir().unwrap();
    let bench = ["bench", "train", "--alone", "--batch", "1x16", "--layers", "2", "--steps", "1"];
    let timeline = ["--recompute", "none", "--profile", "timeline.json", "--json"];
    terrace_in(home.path(), bench.iter().chain(&timeline)).expect_code(0);
    let text = std::fs::read_to_string(home.path().join("timeline.json")).unwrap();
    let events: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let begun = |name: &str| {
        let is = |event: &&serde_json::Value| event["name"] == name && event["ph"] == "B";
        events.iter().filter(is).count()
    };
    // Three steps of two layers, forward and backward: one to warm up, one that is timed, one of whose
    // operations the shares are told.
    assert_eq!(begun("micro_step"), 3, "{text}");
    assert_eq!([begun("layer"), begun("attention"), begun("mlp"), begun("scores")], [12; 4]);
    assert_eq!([begun("head"), begun("update"), begun("wait")], [3; 3]);
    // Products and norms of whole tensors are there, those of single tiles are not: they are too many.
    assert!(begun("product") > 0 && begun("norm") > 0 && begun("softmax") == 0, "{text}");

    // A file is not a folder.
    let nowhere = ["doctor", "--profile", "timeline.json/again.json"];
    let refused = terrace_in(home.path(), nowhere);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("--profile"), "{refused}");
}
