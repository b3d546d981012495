//! `terrace upscale` from the outside.

use std::path::Path;

use crate::support::{documents, repository, terrace, terrace_in};

fn base() -> String {
    repository().join("data/base").display().to_string()
}

#[test]
fn a_deeper_model_is_made_and_its_lineage_told() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["upscale", "--source", &base(), "--layers", "2..6", "--output", "deep"];
    let answer = terrace_in(home.path(), arguments.iter().chain(&["--json"])).expect_code(0).json();
    assert_eq!(answer["source_layers"], 8);
    assert_eq!(answer["layers"], 12);
    // 8 layers of 393,600 and two tables of 8,192 x 192, with the final norm.
    assert_eq!(answer["parameters"], 12 * 393_600 + 2 * 8_192 * 192 + 192);
    assert_eq!(answer["bytes"].as_u64().unwrap(), 2 * answer["parameters"].as_u64().unwrap());
    assert!(answer["seconds"].as_f64().unwrap() > 0.0);
    let lineage = home.path().join(answer["lineage"].as_str().unwrap());
    let lineage: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(lineage).unwrap()).unwrap();
    let copy = &lineage["tensors"]["model.layers.6.mlp.up_proj.weight"];
    assert_eq!(copy["source"], "model.layers.2.mlp.up_proj.weight");

    let look = terrace_in(home.path(), ["inspect", "deep", "--json"]).expect_code(0).json();
    assert_eq!(look["parameters"], answer["parameters"]);
    // Twice is refused, and what was there stays.
    let again = terrace_in(home.path(), arguments).expect_code(2);
    assert!(again.stderr.contains("name another folder"), "{again}");
    assert!(home.path().join("deep/config.json").exists());
}

#[test]
fn requests_that_make_no_sense_say_what_would() {
    let home = tempfile::tempdir().unwrap();
    let base = base();
    let upscale = |arguments: &[&str]| {
        let always = ["upscale", "--source", &base];
        terrace_in(home.path(), always.iter().chain(arguments)).expect_code(2).stderr
    };
    for (layers, expected) in [
        ("6..9", "8 layers"),
        ("4..4", "holds no layer"),
        ("0..3, 5..8", "layer 3 has not been used"),
        ("0..8, 2..6", "end it with 8"),
        ("stack 1", "at least 2"),
        ("2-6", "half-open"),
        ("auto", "--length"),
    ] {
        let stderr = upscale(&["--layers", layers, "--output", "deep"]);
        assert!(stderr.contains(expected), "{layers}: {stderr}");
    }
    let stderr = upscale(&["--layers", "auto", "--length", "4", "--output", "deep"]);
    assert!(stderr.contains("--text"), "{stderr}");
    let stderr = upscale(&["--layers", "2..6", "--output", "deep", "--rope-theta", "0"]);
    assert!(stderr.contains("rope_theta: found 0"), "{stderr}");
    let stderr = upscale(&["--output", "deep"]);
    assert!(stderr.contains("--layers"), "{stderr}");
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "nothing was left");
    let outcome = terrace(["upscale", "--source", "nowhere", "--layers", "1..2", "--output", "x"]);
    assert!(outcome.expect_code(2).stderr.contains("nowhere"));
}

#[test]
fn every_range_is_tried_and_the_best_one_taken() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    documents(home.path(), "counting");
    terrace_in(home.path(), ["prepare", "counting.toml", "--output", "edition"]).expect_code(0);
    let base = base();
    let measure = ["--length", "6", "--text", "counting=edition", "--sequences", "4"];
    let analyze = ["upscale", "--source", &base, "--analyze", "--picture", "layers", "--json"];
    let found = terrace_in(home.path(), analyze.iter().chain(&measure)).expect_code(0).json();
    assert_eq!(found["layers"].as_array().unwrap().len(), 8);
    assert!(found["layers"][0]["cosine"].as_f64().unwrap() < 1.0);
    let candidates = found["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 3);
    let kl: Vec<f64> = candidates.iter().map(|c| c["kl_nats"].as_f64().unwrap()).collect();
    assert!(kl.is_sorted() && kl[0] > 0.0, "{kl:?}");
    for key in ["start", "end", "cosine_in_place", "delta_nats"] {
        assert!(candidates[0][key].is_number(), "{key}");
    }
    assert!(is_file(&path("layers.svg")) && is_file(&path("layers.png")));

    let auto = ["upscale", "--source", &base, "--layers", "auto", "--output", "deep", "--json"];
    let made = terrace_in(home.path(), auto.iter().chain(&measure)).expect_code(0).json();
    assert_eq!(made["layers"], 14);
    let start = made["analysis"]["chosen"]["start"].as_u64().unwrap();
    assert_eq!(start, found["chosen"]["start"].as_u64().unwrap());
    assert_eq!(made["copies"][0].as_u64().unwrap(), start + 6);
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}

#[test]
fn one_run_makes_the_model_deeper_and_trains_it() {
    let home = tempfile::tempdir().unwrap();
    documents(home.path(), "counting");
    let tokenizer = repository().join("crates/tokenizer/tests/fixtures/byte_level.json");
    let run = format!(
        r#"
name = "deep"
run_directory = "run"
[model]
path = {:?}
tokenizer = {tokenizer:?}
[model.upscale]
layers = "6..8"
[training]
sequence_length = 32
micro_batch_sequences = 2
[optimizer]
learning_rate = 1e-3
[batch]
mode = "fixed"
initial_tokens = 64
[validation]
sequences_per_source = 2
[sources.counting]
edition = "edition"
prepare = "counting.toml"
[[stages]]
name = "one"
budget_tokens = 128
mixture = {{ counting = 1 }}
"#,
        base()
    );
    std::fs::write(home.path().join("run.toml"), &run).unwrap();
    let plan = terrace_in(home.path(), ["plan", "run.toml", "--json"]).expect_code(0).json();
    assert_eq!(plan["model"]["layers"], 10);
    assert_eq!(plan["model"]["upscale"]["copies"], serde_json::json!([8, 9]));

    let outcome = terrace_in(home.path(), ["train", "run.toml", "--json"]).expect_code(0);
    let report = outcome.json();
    assert!(outcome.stderr.contains("up-scaled, untrained"), "{outcome}");
    assert_eq!(report["upscale"]["layers"], 10);
    assert!(report["upscale"]["bits_per_byte_base"]["counting"].as_f64().unwrap() > 0.0);
    assert!(report["upscale"]["twins"][0]["cosine"].as_f64().unwrap() < 1.0);
    assert!(home.path().join("run/upscaled/lineage.json").exists());

    terrace_in(home.path(), ["export", "run", "--output", "model"]).expect_code(0);
    let look = terrace_in(home.path(), ["inspect", "model", "--json"]).expect_code(0).json();
    assert_eq!(look["parameters"], plan["model"]["parameters"]);

    // Layers that the base does not have are refused where they are written.
    std::fs::write(home.path().join("run.toml"), run.replace("6..8", "6..9")).unwrap();
    let outcome = terrace_in(home.path(), ["train", "run.toml"]).expect_code(2);
    assert!(outcome.stderr.contains("reaches beyond the model"), "{outcome}");
    assert!(outcome.stderr.contains("run.toml"), "{outcome}");
}
