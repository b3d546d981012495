//! The files in `configs/` work, and its README describes the whole language.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use terrace_config::{PlanOptions, gather, load, load_prepare, load_simulate, load_task, resolve};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn every_run_file_makes_a_plan() {
    let files = toml_files(&configs());
    assert!(!files.is_empty());
    for file in files {
        let loaded = load(&file, &[]).unwrap_or_else(|error| panic!("{error}"));
        let facts = gather(&loaded.config).unwrap_or_else(|error| panic!("{error}"));
        resolve(&loaded, &facts, &PlanOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_prepare_file_loads() {
    for file in toml_files(&configs().join("prepare")) {
        load_prepare(&file, &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_simulation_loads() {
    for file in toml_files(&configs().join("simulate")) {
        load_simulate(&file, &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_task_loads() {
    let files = toml_files(&configs().join("tasks"));
    assert_eq!(files.len(), 16);
    for file in files {
        let loaded = load_task(&file, &[]).unwrap_or_else(|error| panic!("{error}"));
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(loaded.config.name, name);
    }
}

#[test]
fn every_file_is_in_the_readme() {
    let readme = std::fs::read_to_string(configs().join("README.md")).unwrap();
    for file in toml_files(&configs()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("| `{name}` |")), "{name} has no line in the README");
    }
}

const MINIMAL_RUN: &str = r#"
name = "x"
run_directory = "x"
[model.architecture]
hidden_size = 8
intermediate_size = 8
num_hidden_layers = 1
num_attention_heads = 1
num_key_value_heads = 1
vocab_size = 8
max_position_embeddings = 8
rms_norm_eps = 1e-6
rope_theta = 1e4
[training]
sequence_length = 8
[optimizer]
learning_rate = 1e-3
[batch]
initial_tokens = 8
maximum_tokens = 8
[sources.NAME]
edition = "x"
[[stages]]
name = "one"
budget_tokens = 16
mixture = { NAME = 1 }
"#;

/// What a complete run file has besides the minimal one; `batch.schedule` warns, but loads.
const THE_REST_OF_A_RUN: [(&str, &str); 19] = [
    ("model.path", "x"),
    ("model.tokenizer", "x"),
    ("model.upscale.layers", "0..1"),
    ("training.memory_budget", "1GiB"),
    ("batch.schedule", "0:8"),
    ("batch.ramp_tokens", "8"),
    ("batch.ramp_increment_tokens", "8"),
    ("batch.half_life_tokens", "8"),
    ("batch.step_cost_tokens", "8"),
    ("batch.plateau.cooldown_steps", "1"),
    ("batch.plateau.safe_learning_rate", "1.0"),
    ("checkpoint.every_tokens", "8"),
    ("checkpoint.every_steps", "1"),
    ("evaluation.tasks", "[]"),
    ("evaluation.limit", "1"),
    ("evaluation.context_length", "8"),
    ("sources.NAME.prepare", "x"),
    ("sources.NAME.max_epochs", "1"),
    ("stages.0.learning_rate", "1e-3"),
];

const MINIMAL_PREPARE: &str = r#"
source = "x"
tokenizer = "x"
sequence_length = 8
inputs = [{ paths = ["x"] }]
held_out = [{ paths = ["x"] }]
"#;

const THE_REST_OF_PREPARE: [(&str, &str); 5] = [
    ("contamination", "{ tasks = [\"x\"] }"),
    ("id_column", "id"),
    ("spill_directory", "x"),
    ("inputs.0.format", "jsonl"),
    ("held_out.0.format", "jsonl"),
];

const MINIMAL_SIMULATION: &str = r#"
[quadratic]
dimension = 1
curvature_power = 1.0
noise_power = 1.0
learning_rate = 0.1
[sources.NAME]
distance = 1.0
[[stages]]
name = "x"
budget_examples = 1
mixture = { NAME = 1.0 }
"#;

const THE_REST_OF_A_SIMULATION: [(&str, &str); 2] =
    [("plateau.maximum_batch", "8"), ("declared.schedule", "\"0:4\"")];

const MINIMAL_TASK: &str = r#"
name = "x"
form = "generation"
metric = "exact_match,x"
prompt = "x"
target = "x"
[data]
items = ["x"]
[[filters]]
name = "x"
regex = "x"
"#;

/// Any key of a task may be written where its form has a use for it; these have one in another form.
const A_TASK_OF_SUBSETS: &str = r#"
name = "x"
form = "multiple-choice"
metric = "acc"
prompt = "x"
options = ["x"]
answer = "0"
[data]
items = ["{subset}"]
[data.subsets]
NAME = "x"
[values]
NAME = "x"
[[fewshot.examples]]
NAME = "x"
"#;

const A_TASK_OF_CONTEXTS: &str = r#"
name = "x"
form = "multiple-choice"
metric = "acc"
prompts = ["x"]
target = "x"
answer = "0"
data = { items = ["x"] }
"#;

#[test]
fn the_readme_describes_every_key_and_its_default() {
    let readme = std::fs::read_to_string(configs().join("README.md")).unwrap();
    let (_, tables) = readme.split_once("## A run file").unwrap();
    let (run, tables) = tables.split_once("## A file of `terrace prepare`").unwrap();
    let (prepare, tables) = tables.split_once("## A file of `terrace simulate`").unwrap();
    let (simulate, task) = tables.split_once("## A file of a task").unwrap();

    let mut rest = THE_REST_OF_A_RUN.map(owned).to_vec();
    rest.push(owned(("stages.0.mixture_end", "{ NAME = 1 }")));
    rest.push(owned(("stages.0.decay", "{}")));
    let change = "[{ after_tokens = 8, mixture = { NAME = 1 }, mixture_end = { NAME = 1 } }]";
    rest.push(owned(("stages.0.mixture_changes", change)));
    let minimal = leaves(MINIMAL_RUN, &[], |path, set| {
        serde_json::to_value(load(path, set).unwrap().config).unwrap()
    });
    let complete = leaves(MINIMAL_RUN, &rest, |path, set| {
        serde_json::to_value(load(path, set).unwrap().config).unwrap()
    });
    compare(run, MINIMAL_RUN, &minimal, &complete);

    let rest = THE_REST_OF_PREPARE.map(owned).to_vec();
    let minimal = leaves(MINIMAL_PREPARE, &[], |path, set| {
        serde_json::to_value(load_prepare(path, set).unwrap().config).unwrap()
    });
    let complete = leaves(MINIMAL_PREPARE, &rest, |path, set| {
        serde_json::to_value(load_prepare(path, set).unwrap().config).unwrap()
    });
    compare(prepare, MINIMAL_PREPARE, &minimal, &complete);

    let rest = THE_REST_OF_A_SIMULATION.map(owned).to_vec();
    let minimal = leaves(MINIMAL_SIMULATION, &[], |path, set| {
        serde_json::to_value(load_simulate(path, set).unwrap().config).unwrap()
    });
    let complete = leaves(MINIMAL_SIMULATION, &rest, |path, set| {
        serde_json::to_value(load_simulate(path, set).unwrap().config).unwrap()
    });
    compare(simulate, MINIMAL_SIMULATION, &minimal, &complete);

    let read = |text| {
        leaves(text, &[], |path, set| {
            serde_json::to_value(load_task(path, set).unwrap().config).unwrap()
        })
    };
    let mut minimal = read(MINIMAL_TASK);
    let mut complete = read(A_TASK_OF_SUBSETS);
    // No form does without all of these; what they are by default shows in one that has no use for them.
    minimal.insert("target".to_owned(), complete["target"].clone());
    minimal.insert("prompt".to_owned(), read(A_TASK_OF_CONTEXTS)["prompt"].clone());
    complete.extend(minimal.clone());
    complete.retain(|key, _| key != "filters" && key != "fewshot.examples");
    compare(task, MINIMAL_TASK, &minimal, &complete);
}

fn owned((path, value): (&str, &str)) -> (String, String) {
    (path.to_owned(), value.to_owned())
}

type Overrides = [(String, String)];

/// Every key of a configuration, with its value.
fn leaves(
    text: &str,
    set: &Overrides,
    load: impl Fn(&Path, &Overrides) -> Value,
) -> BTreeMap<String, Value> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("x.toml");
    std::fs::write(&path, text).unwrap();
    let mut found = BTreeMap::new();
    walk(&load(&path, set), String::new(), &mut found);
    found
}

fn walk(value: &Value, key: String, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if key.is_empty() { "" } else { "." };
                walk(value, format!("{key}{dot}{name}"), found);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            values.iter().for_each(|value| walk(value, format!("{key}[]"), found));
        }
        leaf => {
            found.insert(key, leaf.clone());
        }
    }
}

fn compare(
    table: &str,
    text: &str,
    minimal: &BTreeMap<String, Value>,
    complete: &BTreeMap<String, Value>,
) {
    let rows: BTreeMap<&str, &str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let (key, rest) = line.split_once('`').unwrap();
            (key, rest.split('|').nth(2).unwrap().trim())
        })
        .filter(|(key, _)| *key != "extends")
        .collect();
    assert!(complete.values().all(|value| !value.is_null()), "something is not set: {complete:?}");
    let (documented, keys): (Vec<_>, Vec<_>) =
        (rows.keys().copied().collect(), complete.keys().map(String::as_str).collect());
    assert_eq!(documented, keys, "the table and the language have different keys");

    for (key, default) in rows {
        let last = key.rsplit('.').next().unwrap();
        let is_written = text.lines().any(|line| {
            line.trim_start().starts_with(&format!("{last} "))
                || line.contains(&format!("{{ {last} ="))
        });
        match (default, minimal.get(key)) {
            ("derived", Some(value)) => assert!(!value.is_null(), "{key}"),
            ("—", None | Some(Value::Null)) => {}
            (cell, Some(Value::Null)) => assert!(cell.starts_with("required in"), "{key}: {cell}"),
            (cell, Some(_)) if cell.starts_with("required") => assert!(is_written, "{key}"),
            (cell, Some(value)) => assert_eq!(cell, format!("`{value}`"), "{key}"),
            // A section that may be left out: what it sets by itself shows where it is there.
            (cell, None) if minimal.get(key.rsplit_once('.').unwrap().0) == Some(&Value::Null) => {
                assert!(cell == "required" || cell == format!("`{}`", complete[key]), "{key}");
            }
            (cell, None) => panic!("{key}: {cell}"),
        }
    }
}
