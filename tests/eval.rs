//! `terrace eval`, and `terrace compare` on what it logs, from the outside.

use std::path::Path;

use serde_json::Value;

use crate::support::{repository, terrace_in};

const CHOICE: &str = r#"name = "choice"
group = "text"
form = "multiple-choice"
metric = "acc"
prompt = "Question: {{q}}\nAnswer:"
options_from = "o"
answer = "a"
data = { items = ["items.jsonl"] }
"#;
const WRITING: &str = r#"name = "writing"
form = "generation"
metric = "exact_match"
prompt = "Question: {{q}}\nAnswer:"
target = "{{o[0]}}"
data = { items = ["items.jsonl"] }
generation = { max_new_tokens = 6, stop = ["\n"] }
"#;
const TEXTS: &str = r#"name = "texts"
form = "perplexity"
metric = "bits_per_byte"
prompt = "{{q}}"
data = { items = ["items.jsonl"] }
"#;
const ITEMS: &str = r#"{"q": "def add(a, b):", "o": ["    return a + b", "数学"], "a": 0}
{"q": "1 + 1", "o": ["3", "2", "two"], "a": 1}
{"q": "今天", "o": ["x", "好"], "a": 1}
{"q": "The sun is", "o": ["a star", "qqq zzz"], "a": 0}
"#;

fn base() -> String {
    repository().join("data/base").display().to_string()
}

fn tasks(home: &Path) {
    let files = [
        ("choice.toml", CHOICE),
        ("writing.toml", WRITING),
        ("texts.toml", TEXTS),
        ("items.jsonl", ITEMS),
    ];
    for (name, text) in files {
        std::fs::write(home.join(name), text).unwrap();
    }
}

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_model_is_asked_logged_gone_on_with_and_compared() {
    let home = tempfile::tempdir().unwrap();
    tasks(home.path());
    let eval = |model: &str, more: &[&str]| {
        let tasks = ["--tasks", "choice.toml", "writing.toml", "texts.toml", "--json"];
        terrace_in(home.path(), ["eval", model].iter().chain(&tasks).chain(more))
    };
    let log = ["--batch-invariant", "--log-items", "float.jsonl"];
    let answer = eval(&base(), &log).expect_code(0).json();
    let task = |index: usize| &answer["tasks"][index];
    assert_eq!([0, 1, 2].map(|i| task(i)["items"].as_u64()), [Some(4); 3]);
    let bits = task(2)["metrics"]["bits_per_byte"]["value"].as_f64().unwrap();
    assert!(bits > 0.5 && bits < 20.0, "{bits}");
    assert!(answer["work"]["prompt_tokens"].as_u64().unwrap() > 50, "{answer}");
    let whole = records(&home.path().join("float.jsonl"));
    assert_eq!(whole.len(), 12);

    // What was generated is what the model generates elsewhere.
    let prompt = "Question: 1 + 1\nAnswer:";
    let generate = ["generate", &base(), "--prompt", prompt, "--max-new-tokens", "6"];
    let generate = generate.iter().chain(&["--stop", "\\n", "--batch-invariant", "--json"]);
    let own = terrace_in(home.path(), generate).expect_code(0).json();
    let written = whole.iter().find(|r| r["task"] == "writing" && r["index"] == 1).unwrap();
    assert_eq!(written["detail"]["texts"][0], own["text"]);

    // Killed after five items, in the middle of a line: what is known is not asked again.
    let text = std::fs::read_to_string(home.path().join("float.jsonl")).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let torn = lines[..5].concat() + &lines[5][..20];
    std::fs::write(home.path().join("float.jsonl"), torn).unwrap();
    let again = eval(&base(), &log).expect_code(0).json();
    assert_eq!(again["tasks"], answer["tasks"]);
    let fewer = again["work"]["prompt_tokens"].as_u64() < answer["work"]["prompt_tokens"].as_u64();
    assert!(fewer, "{again}");
    assert_eq!(records(&home.path().join("float.jsonl")).len(), 12);

    // Eight-bit weights are another model, on the same items.
    let quantize = ["quantize", &base(), "--output", "int8"];
    terrace_in(home.path(), quantize).expect_code(0);
    let log = ["--log-items", "int8.jsonl", "--batch-invariant"];
    let rounded = eval("int8", &log).expect_code(0).json();
    assert_ne!(rounded["model"], answer["model"]);
    let compare = ["compare", "float.jsonl", "int8.jsonl", "--json"];
    let compared = terrace_in(home.path(), compare).expect_code(0).json();
    let texts = compared["comparisons"][0]["tasks"].as_array().unwrap();
    let texts = texts.iter().find(|task| task["task"] == "texts").unwrap();
    assert_eq!((&texts["items"], &texts["unpaired"]), (&4.into(), &0.into()));
    let difference = texts["difference"].as_f64().unwrap();
    assert!(difference != 0.0 && difference.abs() < 0.05, "{difference}");
    let people = terrace_in(home.path(), &compare[..3]).expect_code(0).stderr;
    assert!(people.contains("choice") && people.contains("detectable"), "{people}");
}

#[test]
fn gains_and_losses_are_named() {
    let home = tempfile::tempdir().unwrap();
    tasks(home.path());
    let eval = ["eval", &base(), "--tasks", "choice.toml", "--log-items", "before.jsonl"];
    terrace_in(home.path(), eval).expect_code(0);
    let mut later = records(&home.path().join("before.jsonl"));
    for record in &mut later {
        let acc = &mut record["metrics"]["acc"];
        // Every item the other way round.
        *acc = Value::from(1.0 - acc.as_f64().unwrap());
    }
    let lines: Vec<String> = later.iter().map(|record| record.to_string() + "\n").collect();
    std::fs::write(home.path().join("after.jsonl"), lines.concat()).unwrap();
    let compare = ["compare", "before.jsonl", "after.jsonl", "--json"];
    let compared = terrace_in(home.path(), compare).expect_code(0).json();
    let flipped = compared["comparisons"][0]["flipped"].as_array().unwrap();
    let places: Vec<u64> = flipped.iter().map(|flip| flip["index"].as_u64().unwrap()).collect();
    assert_eq!(places, [0, 1, 2, 3]);
    for flip in flipped {
        let now = later.iter().find(|record| record["index"] == flip["index"]).unwrap();
        assert_eq!(flip["gained"], now["metrics"]["acc"] == 1.0);
    }
}

#[test]
fn what_cannot_be_asked_is_said_before_a_model_is_loaded() {
    let home = tempfile::tempdir().unwrap();
    tasks(home.path());
    let refusal = |arguments: &[&str]| {
        let answer = terrace_in(home.path(), arguments.iter().chain(&["--json"]));
        answer.expect_code(2).json()["error"]["message"].as_str().unwrap().to_owned()
    };
    // The model is not there either, but that would be found out after minutes.
    let none = refusal(&["eval", "nowhere", "--tasks", "choice.toml", "--set", "metric=f1"]);
    assert!(none.contains("f1"), "{none}");
    std::fs::remove_file(home.path().join("items.jsonl")).unwrap();
    let none = refusal(&["eval", "nowhere", "--tasks", "choice.toml"]);
    assert!(none.contains("items.jsonl"), "{none}");
    std::fs::write(home.path().join("items.jsonl"), ITEMS).unwrap();
    let long = refusal(&["eval", &base(), "--tasks", "choice.toml", "--context", "9000000"]);
    assert!(long.contains("--context"), "{long}");

    let log = ["eval", "nowhere", "--tasks", "choice.toml", "--log-items", "none/log.jsonl"];
    let unwritable = refusal(&log);
    assert!(unwritable.contains("none/log.jsonl"), "{unwritable}");

    std::fs::write(home.path().join("a.jsonl"), "").unwrap();
    let empty = refusal(&["compare", "a.jsonl", "a.jsonl"]);
    assert!(empty.contains("no item"), "{empty}");
    std::fs::write(home.path().join("a.jsonl"), "{}\n").unwrap();
    let other = refusal(&["compare", "a.jsonl", "a.jsonl"]);
    assert!(other.contains("a.jsonl:1"), "{other}");
    let picture = refusal(&["compare", "a.jsonl", "a.jsonl", "--picture", "x"]);
    assert!(picture.contains("--picture"), "{picture}");
}
