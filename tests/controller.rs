//! The batch controller as an instrument: simulated, replayed, and held against others.

use std::collections::BTreeMap;

use crate::support::{repository, small_run, terrace, terrace_in};
use serde_json::{Value, json};

const RUN: &str = r#"
name = "replayed"
[batch]
mode = "plateau"
initial_tokens = 64
maximum_tokens = 512
[batch.plateau]
nats_per_percent = 0.3
alpha = 0.4
minimum_steps_left = 1
[validation]
sequences_per_source = 2
[[stages]]
name = "one"
budget_tokens = 8192
mixture = { apples = 0.7, pears = 0.3 }
[[stages]]
name = "two"
budget_tokens = 8192
mixture = { apples = 0.2, pears = 0.8 }
"#;

fn rows<'a>(answer: &'a Value, schedule: &str) -> Vec<&'a Value> {
    let results = answer["results"].as_array().unwrap().iter();
    results.filter(|row| row["schedule"] == schedule).collect()
}

/// The figure as SVG, which has to stand beside one that is a bitmap.
fn picture(stem: &str) -> String {
    let bitmap = std::fs::read(format!("{stem}.png")).unwrap();
    assert_eq!(bitmap[..4], [0x89, b'P', b'N', b'G']);
    std::fs::read_to_string(format!("{stem}.svg")).unwrap()
}

#[test]
fn schedules_are_held_against_each_other_where_the_best_is_known() {
    let file = "configs/simulate/acceptance.toml";
    let answer =
        terrace(["simulate", file, "--set", "plateau.seeds=8", "--json"]).expect_code(0).json();
    let figures = |schedule: &str| -> Vec<(f64, f64)> {
        let number = |row: &Value, key: &str| row[key].as_f64().unwrap().round();
        let rows = rows(&answer, schedule).into_iter();
        rows.map(|row| (number(row, "steps"), number(row, "examples"))).collect()
    };
    assert_eq!(figures("oracle"), [(131.0, 323.0), (225.0, 1169.0), (318.0, 3595.0)]);
    assert_eq!(figures("best-fixed"), [(95.0, 819.0), (152.0, 3997.0), (205.0, 15_445.0)]);
    assert_eq!(figures("relative-drop"), [(204.0, 531.0), (309.0, 1923.0), (422.0, 7491.0)]);
    assert_eq!(figures("gns-sqrt"), [(58.0, 1884.0), (107.0, 4872.0), (199.0, 11_830.0)]);
    for row in rows(&answer, "no-growth") {
        assert!(row["steps"].is_null(), "a batch of one rests above every target: {row}");
    }
    for (row, (_, best)) in rows(&answer, "plateau").into_iter().zip(figures("oracle")) {
        assert!(row["examples_p5"].as_f64().unwrap() > best, "{row}");
        assert!(row["examples_p95"].as_f64() >= row["examples"].as_f64(), "{row}");
    }
    let home = tempfile::tempdir().unwrap();
    let stem = home.path().join("schedules").display().to_string();
    let set = ["simulate", file, "--set", "plateau.seeds=2", "--picture", &stem];
    let people = terrace(set).expect_code(0);
    let svg = picture(&stem);
    assert!(svg.contains("Loss by examples") && svg.contains("relative-drop"), "{svg}");
    assert!(people.stderr.contains("never") && people.stderr.contains("3,595"), "{people}");
}

#[test]
fn stages_are_simulated_with_every_source() {
    let file = "configs/simulate/yi.toml";
    let answer =
        terrace(["simulate", file, "--set", "plateau.seeds=3", "--json"]).expect_code(0).json();
    let story = &answer["story"];
    assert_eq!(story["sources"], serde_json::json!(["code", "math", "text"]));
    assert_eq!(story["stages"].as_array().unwrap().len(), 4);
    let loss = |index: usize| story["stages"][index]["loss"].as_f64().unwrap();
    assert!(loss(1) < loss(0) && loss(3) < loss(2), "growing lowers the floor: {story}");
}

#[test]
fn simulations_that_make_no_sense_say_what_would() {
    let file = "configs/simulate/acceptance.toml";
    for (set, expected) in [
        ("quadratic.learning_rate=3.0", "above 0 and below 2"),
        ("quadratic.dimension=0", "expected 1 to"),
        ("quadratic.targets=[]", "nothing to simulate"),
        ("plateau.alpha=0.9", "below 0.5"),
        ("plateau.budget_examples=1000000000", "a run would take"),
        ("plateau.patience=3", "patience"),
        ("declared.schedule=\"5:1\"", "first entry at 0"),
        ("stages=[{ name = \"x\", budget_examples = 10, mixture = { y = 1.0 } }]", "no source `y`"),
    ] {
        let outcome = terrace(["simulate", file, "--set", set]).expect_code(2);
        assert!(outcome.stderr.contains(expected), "{set}: {outcome}");
    }
    for curves in ["0", "18446744073709551615"] {
        let outcome = terrace(["bench", "plateau", "--curves", curves]).expect_code(2);
        assert!(outcome.stderr.contains("expected 1 to"), "{outcome}");
    }
}

#[test]
fn plateau_tests_are_counted_on_simulated_curves() {
    let home = tempfile::tempdir().unwrap();
    let stem = home.path().join("alarms").display().to_string();
    let bench = ["bench", "plateau", "--curves", "32", "--picture", &stem, "--json"];
    let answer = terrace(bench).expect_code(0).json();
    let lost = ["bench", "plateau", "--curves", "10000000", "--picture", "README.md/alarms"];
    let refused = terrace(lost).expect_code(3);
    assert!(refused.stderr.contains("a folder that can be written"), "{refused}");
    let svg = picture(&stem);
    assert!(svg.contains("AR(1) noise") && svg.contains("slope t-test"), "{svg}");
    assert_eq!(answer["alpha"], 0.05);
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 4 * 5, "two classes, four rules, each deviation and all together");
    let ours = rows.iter().find(|row| row["detector"] == "terrace").unwrap();
    assert!(ours["false_rate_upper"].as_f64() >= ours["false_rate"].as_f64(), "{ours}");
}

#[test]
fn the_same_controller_decides_the_same_again_and_another_one_otherwise() {
    let home = tempfile::tempdir().unwrap();
    small_run(home.path(), RUN);
    terrace_in(home.path(), ["train", "run.toml", "--json"]).expect_code(0);
    let recorded: Vec<Value> = std::fs::read_to_string(home.path().join("run/decisions.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let replay = ["replay", "run", "--picture", "replayed", "--json"];
    let again = terrace_in(home.path(), replay).expect_code(0).json();
    let svg = picture(&home.path().join("replayed").display().to_string());
    assert!(svg.contains("Training loss on record"), "{svg}");
    assert_eq!(again["same_controller"], true);
    let replayed = again["decisions"].as_array().unwrap();
    assert!(recorded.len() > 4, "looks were made: {recorded:?}");
    assert_eq!(replayed.len(), recorded.len());
    for (replayed, recorded) in replayed.iter().zip(&recorded) {
        for key in ["step", "tokens_seen", "stage", "kind", "verdict", "to_sequences"] {
            assert_eq!(replayed[key], recorded[key], "{key}: {replayed}");
        }
    }

    std::fs::write(
        home.path().join("steps.toml"),
        "[batch]\nmode = \"steps\"\nschedule = \"0:64 4096:128\"\n",
    )
    .unwrap();
    let arguments = ["replay", "run", "--controller", "steps.toml", "--json"];
    let other = terrace_in(home.path(), arguments).expect_code(0).json();
    assert_eq!(other["same_controller"], false);
    let at = other["growths"][0]["tokens_seen"].as_u64().unwrap();
    assert!((4096..4096 + 512).contains(&at), "the first step behind it, whatever its batch: {at}");
    assert_eq!(other["growths"][0]["to_tokens"], 128);

    std::fs::write(home.path().join("more.toml"), "name = \"x\"\n").unwrap();
    let refused = terrace_in(home.path(), ["replay", "run", "--controller", "more.toml"]);
    assert!(refused.expect_code(2).stderr.contains("only a [batch] section"));
    let refused = terrace_in(home.path(), ["replay", "run", "--set", "seed=3"]).expect_code(2);
    assert!(refused.stderr.contains("only batch.* can be set"), "{refused}");
    let refused = terrace_in(&repository(), ["replay", "nowhere"]).expect_code(2);
    assert!(refused.stderr.contains("not a run directory"), "{refused}");
}

/// The steps of tests/golden/quickstart.tsv as a run records them; `scripts/quickstart_losses.py` says what
/// the columns are.
fn recorded_steps() -> String {
    let text = std::fs::read_to_string(repository().join("tests/golden/quickstart.tsv")).unwrap();
    let step = |(index, line): (usize, &str)| {
        let mut cells = line.split('\t');
        let stage = cells.next().unwrap();
        let [seen, batch] = [(); 2].map(|()| cells.next().unwrap().parse::<u64>().unwrap());
        let rate: f64 = cells.next().unwrap().parse().unwrap();
        let (mut nats, mut targets, mut noise) = (BTreeMap::new(), BTreeMap::new(), Value::Null);
        for (name, numbers) in cells.map(|cell| cell.split_once('=').unwrap()) {
            let (first, second) = numbers.split_once('/').unwrap();
            let first: f64 = first.parse().unwrap();
            if name == "noise" {
                let trace: f64 = second.parse().unwrap();
                noise = json!({"gradient_square": first, "noise_trace": trace});
            } else {
                nats.insert(name, first);
                targets.insert(name, second.parse::<u64>().unwrap());
            }
        }
        let total: u64 = targets.values().sum();
        if !noise.is_null() {
            noise["targets"] = total.into();
        }
        let step = json!({
            "step": index + 1, "stage": stage, "tokens_seen": seen, "batch_tokens": batch,
            "target_tokens": total, "nats": 0.0, "nats_per_source": nats,
            "target_tokens_per_source": targets, "learning_rate": rate, "gradient_norm": 1.0,
            "noise_sample": noise, "token_digest": "0".repeat(64), "seconds": 1.0,
            "tokens_per_second": 1.0, "mfu": null,
        });
        format!("{step}\n")
    };
    text.lines().enumerate().map(step).collect()
}

#[test]
fn the_quickstart_is_decided_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let file = repository().join("configs/quickstart.toml");
    let above = repository().join("configs/..").display().to_string();
    let config = std::fs::read_to_string(&file).unwrap().replace("\"..", &format!("\"{above}"));
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    std::fs::create_dir(home.path().join("checkpoints")).unwrap();
    let plan = terrace(["plan", "configs/quickstart.toml", "--json"]).expect_code(0).stdout;
    std::fs::write(home.path().join("plan.json"), plan).unwrap();
    std::fs::write(home.path().join("metrics.jsonl"), recorded_steps()).unwrap();
    let answer = terrace_in(home.path(), ["replay", ".", "--json"]).expect_code(0).json();
    assert_eq!(answer["same_controller"], true);
    let lines = answer["decisions"].as_array().unwrap().iter().map(|decision| {
        let rounded = |value: &Value| value.as_f64().map_or("-".to_owned(), |x| format!("{x:.4}"));
        format!(
            "{} {} {} -> {} {} statistic {} of {}, predicted {}: {}",
            decision["tokens_seen"],
            decision["kind"].as_str().unwrap(),
            decision["from_sequences"],
            decision["to_sequences"],
            decision["verdict"].as_str().unwrap_or("-"),
            rounded(&decision["evidence"]["statistic"]),
            rounded(&decision["evidence"]["threshold"]),
            rounded(&decision["prediction"]["drop"]),
            decision["reason"].as_str().unwrap(),
        )
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}
