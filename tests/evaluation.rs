//! `[evaluation]` in a run file, and the forgetting map, from the outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{small_run, terrace_in};

const RUN: &str = r#"
name = "asked"
[batch]
mode = "fixed"
initial_tokens = 256
[checkpoint]
every_steps = 2
[validation]
sequences_per_source = 4
[evaluation]
tasks = ["tasks/counting.toml", "tasks/texts.toml"]
every_tokens = 1500
limit = 40
batch_invariant = true
[[stages]]
name = "one"
budget_tokens = 2048
mixture = { apples = 1 }
[[stages]]
name = "two"
budget_tokens = 1024
mixture = { apples = 0.5, pears = 0.5 }
"#;

const COUNTING: &str = r#"
name = "counting"
form = "multiple-choice"
metric = "acc"
prompt = "{{name}} {{number}}"
options = ["counts", "and so on"]
answer = "answer"
data = { items = ["counting.jsonl"] }
"#;

const TEXTS: &str = r#"
name = "texts"
form = "perplexity"
metric = "bits_per_byte"
prompt = "{{text}}"
data = { items = ["texts.jsonl"] }
"#;

/// Writes the run, and tasks of 40 questions and 12 texts.
fn world(home: &Path) {
    small_run(home, RUN);
    fs::create_dir(home.join("tasks")).unwrap();
    let write = |name: &str, text: &str| fs::write(home.join("tasks").join(name), text).unwrap();
    let lines =
        |items: Vec<Value>| items.iter().map(|item| format!("{item}\n")).collect::<String>();
    let counting = |i: usize| json!({"name": "apples", "number": i, "answer": i % 2});
    write("counting.jsonl", &lines((0..60).map(counting).collect()));
    let texts = |i: usize| json!({"text": format!("pears {i} counts: and so on and so on.")});
    write("texts.jsonl", &lines((0..12).map(texts).collect()));
    write("counting.toml", COUNTING);
    write("texts.toml", TEXTS);
}

/// The whole lines of a log.
fn lines(run: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join(name)).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Where the run is evaluated.
const PLACES: [u64; 4] = [0, 1536, 2048, 3072];

/// The scored items of all evaluations: their order depends on what is asked at once.
fn items(run: &Path) -> Vec<BTreeSet<String>> {
    let log = |tokens: &u64| format!("evaluation/{tokens:016}.jsonl");
    PLACES
        .iter()
        .map(|tokens| lines(run, &log(tokens)).iter().map(Value::to_string).collect())
        .collect()
}

fn train(home: &Path, name: &str, more: &[&str]) -> Value {
    let set = format!("run_directory={name}");
    let arguments = ["train", "run.toml", "--json", "--set", &set];
    terrace_in(home, arguments.iter().chain(more)).expect_code(0).json()
}

#[test]
fn a_run_is_evaluated_on_its_way_and_shows_what_it_forgot() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let plan = terrace_in(home.path(), ["plan", "run.toml", "--json"]).expect_code(0).json();
    // Two multiples of 1,500 lie before 3,072, the second of them in the second stage.
    assert_eq!(plan["evaluation"]["evaluations"], 5);
    assert_eq!(plan["evaluation"]["tasks"][0]["items"], 40);
    let said = terrace_in(home.path(), ["plan", "run.toml"]).expect_code(0).stderr;
    assert!(
        said.contains("evaluation: 5 times, before the first step, after each stage"),
        "{said}"
    );

    let report = train(home.path(), "run", &[]);
    // No bit depends on it.
    let mut plain = fs::read_to_string(home.path().join("run.toml")).unwrap();
    let (begin, end) = (plain.find("[evaluation]").unwrap(), plain.find("[[stages]]").unwrap());
    plain.replace_range(begin..end, "");
    fs::write(home.path().join("plain.toml"), plain).unwrap();
    let arguments = ["train", "plain.toml", "--json", "--set", "run_directory=plain"];
    let unasked = terrace_in(home.path(), arguments).expect_code(0).json();
    assert_eq!(report["state_digest"], unasked["state_digest"]);
    assert!(!home.path().join("plain/evaluations.jsonl").exists());

    let run = home.path().join("run");
    let records = lines(&run, "evaluations.jsonl");
    let places: Vec<u64> = records.iter().map(|r| r["tokens_seen"].as_u64().unwrap()).collect();
    assert_eq!(places, PLACES);
    assert_eq!(items(&run).iter().map(BTreeSet::len).collect::<Vec<_>>(), [52; 4]);
    assert_eq!(report["evaluations"][3]["label"], "after two", "{report}");
    assert_eq!(report["evaluations"][3]["tasks"][0]["task"], "counting");
    assert_eq!(records[3]["model"], report["state_digest"]);

    let picture = ["compare", "run", "--picture", "map", "--json"];
    let map = terrace_in(home.path(), picture).expect_code(0).json();
    let rows: Vec<&str> =
        map["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(rows, ["apples", "pears", "counting", "texts"]);
    let cell = &map["rows"][0]["cells"][3];
    let bits = &report["stages"][1]["bits_per_byte"]["apples"];
    assert!((cell["value"].as_f64().unwrap() - bits.as_f64().unwrap()).abs() < 1e-9, "{map}");
    assert!(cell["since_first"]["gain_in_errors"].as_f64().unwrap() > 2.0, "it learnt: {map}");
    let stages = map["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    let of_apples = &stages[0]["changes"][0];
    assert!(of_apples["tokens"].as_u64().unwrap() > 1000, "{map}");
    assert!(of_apples["gain_per_billion_tokens"].as_f64().unwrap() > 0.0, "{map}");
    assert_eq!(stages[0]["changes"][1]["tokens"], 0, "the first stage draws no pears");
    let counting = &stages[1]["changes"][2]["moved"]["flips"];
    assert!(counting["gained"].is_u64() && counting["lost"].is_u64(), "{map}");
    let svg = fs::read_to_string(home.path().join("map.svg")).unwrap();
    assert!(svg.contains("counting (acc)") && svg.contains("after two"));
    assert!(home.path().join("map.png").is_file());
    let text = terrace_in(home.path(), ["compare", "run"]).expect_code(0).stderr;
    assert!(text.contains("forgetting map of asked") && text.contains("gain per 1B"), "{text}");
    let none = terrace_in(home.path(), ["compare", "plain"]).expect_code(2);
    assert!(none.stderr.contains("has no evaluations"), "{none}");
}

#[test]
fn a_run_in_bf16_is_evaluated_gone_on_with_and_read_like_any_other() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let lean = [
        ["--set", "training.precision=bf16"],
        ["--set", "optimizer.moments=8-bit"],
        ["--set", "training.gradient_release=true"],
        ["--set", "training.gradient_clipping=per-layer"],
        ["--set", "spikes.policy=rewind"],
        ["--set", "spikes.rewind_after_steps=1"],
    ];
    let straight = train(home.path(), "run", lean.as_flattened());
    let [run, killed] = ["run", "killed"].map(|name| home.path().join(name));
    let other = ["train", "run.toml", "--set", "run_directory=killed"];
    let mut child = begin(home.path(), &[&other, lean.as_flattened()].concat());
    kill_within(&mut child, &killed, 1536, 5);
    let resumed = terrace_in(home.path(), ["resume", "killed", "--json"]).expect_code(0).json();
    assert_eq!(resumed["state_digest"], straight["state_digest"]);
    assert_eq!(items(&killed), items(&run));

    // On its way the model is asked in bf16, as it trains; what reads it afterwards takes the weights as
    // f32, which loses none.
    let records = lines(&run, "evaluations.jsonl");
    let on_its_way = |place: usize| {
        let texts = &records[place]["tasks"][1];
        assert_eq!(texts["task"], "texts");
        texts["value"].as_f64().unwrap()
    };
    let tasks = ["--tasks", "tasks/texts.toml", "--json"];
    terrace_in(home.path(), ["export", "run", "--output", "model"]).expect_code(0);
    let [asked, exported] = ["run", "model"].map(|model| {
        let eval = terrace_in(home.path(), ["eval", model].iter().chain(&tasks));
        let answer = eval.expect_code(0).json();
        answer["tasks"][0]["metrics"]["bits_per_byte"]["value"].as_f64().unwrap()
    });
    let [first, last] = [0, 3].map(on_its_way);
    assert_eq!(asked, exported, "no weight is lost, and the tokenizer is there");
    assert!((asked - last).abs() < 0.02 && last < first - 0.1, "{first}, {last}, {asked}");
}

fn begin(home: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_terrace"))
        .args(arguments)
        .current_dir(home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until an evaluation has scored so many items, and kills the process.
fn kill_within(child: &mut Child, run: &Path, tokens: u64, count: usize) {
    let log = format!("evaluation/{tokens:016}.jsonl");
    let begin = Instant::now();
    while lines(run, &log).len() < count && child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the evaluation never came");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_within_an_evaluation_it_goes_on_with_it() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let straight = train(home.path(), "straight", &[]);
    let expected = home.path().join("straight");
    let run = home.path().join("killed");
    let mut child = begin(home.path(), &["train", "run.toml", "--set", "run_directory=killed"]);
    kill_within(&mut child, &run, 0, 3);
    for (place, count) in [(1536, 5), (2048, 20), (3072, 45)] {
        let mut child = begin(home.path(), &["resume", "killed"]);
        kill_within(&mut child, &run, place, count);
    }
    let kept = lines(&run, "evaluation/0000000000003072.jsonl").len();
    assert!(kept >= 45, "{kept}");
    let last = terrace_in(home.path(), ["resume", "killed", "--json"]).expect_code(0);
    let last = last.json();
    assert_eq!(last["state_digest"], straight["state_digest"]);
    assert_eq!(last["evaluations"], straight["evaluations"]);
    // No item was asked twice, and each is what it was for the run that was never killed.
    assert_eq!(items(&run), items(&expected));
    let count: usize =
        PLACES.iter().map(|at| lines(&run, &format!("evaluation/{at:016}.jsonl")).len()).sum();
    assert_eq!(count, 4 * 52);
    assert_eq!(lines(&run, "evaluations.jsonl"), lines(&expected, "evaluations.jsonl"));
}

#[test]
fn what_is_missing_is_planned_and_not_trained() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let refused = |set: &str, words: &str| {
        let plan = ["plan", "run.toml", "--json", "--set", set];
        let plan = terrace_in(home.path(), plan).expect_code(0).json();
        let missing = plan["missing"].to_string();
        assert!(missing.contains(words), "{missing}");
        let refused = terrace_in(home.path(), ["train", "run.toml", "--set", set]).expect_code(2);
        assert!(refused.stderr.contains(words), "{refused}");
        assert!(!home.path().join("apples").exists(), "nothing was worked on before");
    };
    refused("evaluation.tasks=[\"tasks/nothing.toml\"]", "tasks/nothing.toml");
    fs::rename(home.path().join("tasks/texts.jsonl"), home.path().join("elsewhere")).unwrap();
    refused("evaluation.limit=1", "texts.jsonl");
    let twice = "evaluation.tasks=[\"tasks/counting.toml\", \"tasks/counting.toml\"]";
    let twice = terrace_in(home.path(), ["plan", "run.toml", "--set", twice]).expect_code(2);
    assert!(twice.stderr.contains("written twice"), "{twice}");
    let none = ["plan", "run.toml", "--set", "evaluation.limit=0"];
    let none = terrace_in(home.path(), none).expect_code(2);
    assert!(none.stderr.contains("expected at least 1"), "{none}");
}

#[test]
fn what_is_asked_of_a_run_can_be_changed() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let report = train(home.path(), "run", &["--set", "evaluation.tasks=[]"]);
    let run = home.path().join("run");
    assert_eq!(lines(&run, "evaluations.jsonl").len(), 4, "held-out text alone is measured");
    assert!(!run.join("evaluation").exists());
    // Of a complete run, its last state is asked what it was not asked before.
    let set = "evaluation.tasks=[\"tasks/texts.toml\"]";
    let resumed = terrace_in(home.path(), ["resume", "run", "--json", "--set", set]);
    let resumed = resumed.expect_code(0).json();
    assert_eq!(resumed["state_digest"], report["state_digest"]);
    let evaluations = resumed["evaluations"].as_array().unwrap();
    assert_eq!(evaluations.len(), 4);
    assert_eq!(evaluations[3]["tasks"][0]["task"], "texts");
    // A child is evaluated from where it begins.
    let child = ["branch", "run", "--at", "2048", "--config", "run.toml", "--json"];
    let child = child.iter().chain(&["--set", "run_directory=child"]);
    terrace_in(home.path(), child).expect_code(0);
    let places = lines(&home.path().join("child"), "evaluations.jsonl");
    let places: Vec<u64> = places.iter().map(|r| r["tokens_seen"].as_u64().unwrap()).collect();
    assert_eq!(places, [2048, 3072]);
}

#[test]
fn what_goes_missing_on_the_way_loses_no_step() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let run = home.path().join("run");
    let mut child = begin(home.path(), &["train", "run.toml"]);
    kill_within(&mut child, &run, 1536, 5);
    fs::rename(home.path().join("tasks/texts.jsonl"), home.path().join("elsewhere")).unwrap();
    // It is told before anything is trained, and the run goes on when it is there, or without it.
    let refused = terrace_in(home.path(), ["resume", "run"]).expect_code(2);
    assert!(refused.stderr.contains("texts.jsonl"), "{refused}");
    let set = "evaluation.tasks=[\"tasks/counting.toml\"]";
    let report = terrace_in(home.path(), ["resume", "run", "--json", "--set", set]);
    let report = report.expect_code(0).json();
    assert_eq!(report["complete"], true);
    assert_eq!(report["evaluations"][3]["tasks"].as_array().unwrap().len(), 1);
}
