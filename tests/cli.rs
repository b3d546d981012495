//! The whole command, run as a person runs it.

mod bench;
mod contamination;
mod controller;
mod dashboard;
mod eval;
mod evaluation;
mod generate;
mod inference;
mod kill;
mod quantize;
mod run;
mod serve;
mod steer;
mod support;
mod upscale;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{documents, files_below, flip_a_bit, repository, terrace, terrace_in};

#[test]
fn help_lists_the_verbs() {
    let help = terrace(["--help"]).expect_code(0).stdout;
    let verbs = [
        "prepare",
        "inspect",
        "plan",
        "upscale",
        "train",
        "resume",
        "replay",
        "simulate",
        "init",
        "branch",
        "mix",
        "compare",
        "probe-batch",
        "export",
        "eval",
        "generate",
        "serve",
        "quantize",
        "bench",
        "doctor",
    ];
    for verb in verbs {
        assert!(help.contains(&format!("  {verb} ")), "{verb}\n{help}");
        let help = terrace([verb, "--help"]).expect_code(0).stdout;
        assert!(help.contains("Usage: terrace"), "{help}");
    }
    assert!(help.contains("Exit codes"), "{help}");
    assert!(terrace(["--version"]).expect_code(0).stdout.starts_with("terrace "));
}

#[test]
fn wrong_arguments_are_bad_input() {
    let outcome = terrace(["plan", "--jsn"]).expect_code(2);
    assert!(outcome.stderr.contains("--jsn"), "{outcome}");
    assert!(outcome.stdout.is_empty(), "{outcome}");
    let error = terrace(["plan", "--json", "--set", "nonsense", "x.toml"]).expect_code(2).json();
    assert_eq!(error["error"]["code"], 2);
    assert!(error["error"]["message"].as_str().unwrap().contains("nonsense"), "{error}");
    for rate in ["0", "-5", "NaN"] {
        let rate = format!("--tokens-per-second={rate}");
        let outcome = terrace(["plan", "configs/yi-9b.toml", &rate]).expect_code(2);
        assert!(outcome.stderr.contains("above zero"), "{outcome}");
    }
}

#[test]
fn the_plan_of_yi_9b_is_the_real_thing() {
    let outcome = terrace(["plan", "configs/yi-9b.toml", "--json"]).expect_code(0);
    let plan = outcome.json();
    assert_eq!(plan["model"]["parameters"], 8_829_407_232_u64);
    let stages = plan["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    for stage in stages {
        assert_eq!(stage["budget_tokens"], 400_000_000_000_u64);
    }
    assert!(!plan["missing"].as_array().unwrap().is_empty(), "its data is not there");
    assert!(plan["time"].is_null() && plan["explanation"].is_null());
    assert!(outcome.stderr.is_empty(), "{outcome}");
}

#[test]
fn a_plan_says_how_long_it_takes_and_where_values_come_from() {
    let overrides = ["--set", "stages.0.budget_tokens=0.2T"];
    let arguments = ["plan", "configs/yi-9b.toml", "--tokens-per-second", "250K", "--explain"];
    let plan = terrace(arguments.iter().chain(&overrides).chain(&["--json"])).expect_code(0).json();
    assert_eq!(plan["stages"][0]["budget_tokens"], 200_000_000_000_u64);
    assert_eq!(plan["time"]["tokens_per_second"], 250_000.0);
    let explanation = plan["explanation"].as_array().unwrap();
    let budget = explanation.iter().find(|e| e["key"] == "stages.0.budget_tokens").unwrap();
    assert_eq!(budget["from"], "set");

    let outcome = terrace(arguments.iter().chain(&overrides)).expect_code(0);
    assert!(outcome.stdout.is_empty(), "{outcome}");
    assert!(outcome.stderr.contains("--set"), "{outcome}");
}

#[test]
fn every_run_file_in_configs_has_a_plan() {
    let configs = toml_files_in("configs");
    assert!(!configs.is_empty());
    for file in configs {
        let outcome = terrace([Path::new("plan"), &file, Path::new("--json")]).expect_code(0);
        assert!(outcome.json()["total_tokens"].as_u64().unwrap() > 0, "{}", file.display());
    }
}

#[test]
fn every_prepare_file_in_configs_is_understood() {
    let files = toml_files_in("configs/prepare");
    assert!(!files.is_empty());
    for file in files {
        let loaded = terrace_config::load_prepare(&file, &[]);
        assert!(loaded.is_ok(), "{}", loaded.unwrap_err());
    }
}

#[test]
fn a_mistake_is_shown_in_its_line() {
    let home = tempfile::tempdir().unwrap();
    let base = repository().join("configs/yi-9b.toml");
    let text = format!("extends = {base:?}\nname = \"mine\"\nsede = 3\n");
    std::fs::write(home.path().join("run.toml"), text).unwrap();
    let outcome = terrace_in(home.path(), ["plan", "run.toml"]).expect_code(2);
    assert!(outcome.stderr.contains("run.toml:3:1"), "{outcome}");
    assert!(outcome.stderr.contains("sede = 3"), "{outcome}");
    assert!(outcome.stderr.contains("`seed`"), "{outcome}");

    let error = terrace_in(home.path(), ["plan", "run.toml", "--json"]).expect_code(2).json();
    let error = &error["error"];
    assert_eq!(error["kind"], "bad_input");
    assert_eq!((&error["line"], &error["column"]), (&3.into(), &1.into()), "{error}");
    assert_eq!(error["file"], "run.toml");
    assert!(error["help"].as_str().unwrap().contains("seed"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_bad_input() {
    for verb in ["plan", "inspect", "train"] {
        let error = terrace([verb, "no/such/file.toml", "--json"]).expect_code(2).json();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("no/such/file.toml"), "{verb}: {message}");
    }
}

#[test]
fn the_doctor_describes_the_machine() {
    let answer = terrace(["doctor", "--json"]).expect_code(0).json();
    assert!(answer["processor"]["threads"].as_u64().unwrap() > 0);
    assert!(answer["memory"]["total_bytes"].as_u64().unwrap() > 0);
    let backends = answer["backends"].as_array().unwrap();
    let cpu = backends.iter().find(|backend| backend["name"] == "cpu").unwrap();
    assert_eq!(cpu["compiled_in"], true);
    for check in answer["checks"].as_array().unwrap() {
        let good = check["status"] == "ok";
        assert_eq!(good, check["remedy"].is_null(), "{check}");
    }
    let outcome = terrace(["doctor"]).expect_code(0);
    assert!(outcome.stderr.contains("processor"), "{outcome}");
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
#[test]
fn a_device_that_is_not_built_in_is_not_there() {
    let outcome = terrace(["bench", "train", "--device", "cuda", "--json"]).expect_code(4);
    let error = outcome.json();
    assert_eq!(error["error"]["kind"], "device");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("device cuda needs the backend"), "{error}");
    assert!(error.to_string().contains("--features cuda"), "{error}");
}

/// The files of one folder; those below it are parts that others extend.
fn toml_files_in(folder: &str) -> Vec<PathBuf> {
    let folder = repository().join(folder);
    let mut files = files_below(&folder, ".toml");
    files.retain(|file| file.parent() == Some(&folder));
    files
}

fn prepare(home: &Path, output: &str) -> Value {
    documents(home, "counting");
    let arguments = ["prepare", "counting.toml", "--output", output, "--json"];
    terrace_in(home, arguments).expect_code(0).json()
}

#[test]
fn documents_become_an_edition_that_can_be_inspected() {
    let home = tempfile::tempdir().unwrap();
    let answer = prepare(home.path(), "edition");
    assert_eq!(answer["reused"], false, "{answer}");
    let counts = &answer["counts"];
    assert_eq!(counts["read"], 202, "{answer}");
    assert_eq!(counts["bad"]["null"], 1);
    assert_eq!(counts["dropped"]["in_held_out"], 21);
    assert_eq!(prepare(home.path(), "edition")["reused"], true);

    let edition = terrace_in(home.path(), ["inspect", "edition", "--json"]).expect_code(0).json();
    assert_eq!(edition["kind"], "edition");
    assert_eq!(edition["source"], "counting");
    assert_eq!(edition["verified"], true);
    assert_eq!(edition["held_out"]["documents"], 20);
    assert_eq!(edition["bad_rows"][0]["row"], 201);
    assert_eq!(edition["fingerprint"], answer["fingerprint"]);
    let outcome = terrace_in(home.path(), ["inspect", "edition"]).expect_code(0);
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("verified"), "{outcome}");
}

#[test]
fn a_flipped_bit_is_found_and_the_file_named() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), "edition");
    let shard = files_below(&home.path().join("edition/held_out"), ".arrow").remove(0);
    flip_a_bit(&shard);
    let outcome = terrace_in(home.path(), ["inspect", "edition"]).expect_code(1);
    let name = shard.file_name().unwrap().to_str().unwrap();
    assert!(outcome.stderr.contains("DAMAGED"), "{outcome}");
    assert!(outcome.stderr.contains(&format!("held_out/{name}")), "{outcome}");

    let answer = terrace_in(home.path(), ["inspect", "edition", "--json"]).expect_code(1).json();
    assert_eq!(answer["verified"], false);
    assert!(answer["problems"][0]["file"].as_str().unwrap().ends_with(name), "{answer}");
    terrace_in(home.path(), ["inspect", "edition", "--no-verify"]).expect_code(0);
}

#[test]
fn a_model_folder_is_described_and_a_cut_one_is_damaged() {
    let model = repository().join("tests/golden/sharded/model");
    let answer = terrace([Path::new("inspect"), &model, Path::new("--json")]).expect_code(0).json();
    assert_eq!(answer["kind"], "model");
    assert!(answer["parameters"].as_u64().unwrap() > 0);
    assert!(answer["files"].as_array().unwrap().len() > 1, "{answer}");

    let home = tempfile::tempdir().unwrap();
    for file in files_below(&model, "") {
        std::fs::copy(&file, home.path().join(file.file_name().unwrap())).unwrap();
    }
    let shard = files_below(home.path(), ".safetensors").remove(0);
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let outcome = terrace_in(home.path(), ["inspect", "."]).expect_code(1);
    assert!(outcome.stderr.contains(shard.file_name().unwrap().to_str().unwrap()), "{outcome}");
}

#[test]
fn the_commands_of_the_readme_are_understood() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let commands = readme.lines().filter_map(|line| {
        let line = line.strip_prefix("    ")?.split('#').next()?.trim();
        line.strip_prefix("terrace ").or(line.split_once(" -- ").map(|(_, rest)| rest))
    });
    let mut count = 0;
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        // Help is answered once everything before it is understood; nothing is run.
        terrace(words.iter().chain(&["--help"])).expect_code(0);
        for file in words.iter().filter(|word| word.starts_with("configs/")) {
            assert!(repository().join(file).is_file(), "{file} is not there");
        }
        count += 1;
    }
    assert!(count > 5, "the README shows how to use the command");
}

#[test]
fn what_is_not_ours_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let outcome = terrace_in(home.path(), ["inspect", "."]).expect_code(2);
    assert!(outcome.stderr.contains("manifest.json"), "{outcome}");
}
