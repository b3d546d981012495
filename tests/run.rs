//! A small run from its file to its inspection, through the whole command.

use std::path::Path;

use crate::support::{documents, files_below, flip_a_bit, repository, terrace_in};
use serde_json::Value;

const RUN: &str = r#"
name = "small"
run_directory = "run"
[model.architecture]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 641
max_position_embeddings = 32
rms_norm_eps = 1e-6
rope_theta = 10000.0
[training]
sequence_length = 32
micro_batch_sequences = 2
recompute = "none"
[optimizer]
learning_rate = 1e-3
[batch]
mode = "fixed"
initial_tokens = 128
[checkpoint]
every_tokens = 1024
[validation]
sequences_per_source = 4
[sources.apples]
edition = "apples"
prepare = "apples.toml"
[sources.pears]
edition = "pears"
prepare = "pears.toml"
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
    documents(home, "apples");
    documents(home, "pears");
    let tokenizer = repository().join("crates/tokenizer/tests/fixtures/byte_level.json");
    let run = RUN.replace("[model.", &format!("model.tokenizer = {tokenizer:?}\n[model."));
    std::fs::write(home.join("run.toml"), run).unwrap();
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
