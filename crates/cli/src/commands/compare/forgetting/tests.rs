use serde_json::json;
use terrace_figure::palette::{BLUE, VERMILION};
use terrace_train::SourceScore;

use super::*;

const LN_2: f64 = std::f64::consts::LN_2;

/// A point with two sources of four windows, and a task of four items of which some are right.
fn evaluated(
    tokens: u64,
    occasion: &str,
    english: [f64; 4],
    code: [f64; 4],
    right: [u8; 4],
) -> Evaluated {
    let source = |bits: [f64; 4]| {
        SourceScore::new(bits.iter().map(|bits| bits * 10.0 * LN_2).collect(), vec![10; 4])
    };
    let items = right.iter().enumerate().map(|(index, right)| {
        json!({
            "task": "sums", "group": "math", "subset": "", "index": index, "metric": "exact_match",
            "metrics": {"exact_match": right}, "is_cut": false, "item": format!("{index:064}"),
            "model": "m",
            "detail": {"form": "generation", "texts": [], "taken": {}, "target": ""},
        })
    });
    let score = right.iter().sum::<u8>() as f64 / 4.0;
    let record = json!({
        "tokens_seen": tokens, "occasion": occasion, "stage": format!("to {tokens}"), "model": "0".repeat(64),
        "items": "x.jsonl", "asked_as": "m", "limit": null, "task_files": [],
        "tasks": [{
            "task": "sums", "metric": "exact_match", "items": 4, "value": score,
            "standard_error": 0.25, "metrics": {"exact_match": score},
        }],
        "sources": {"english": source(english), "code": source(code)},
    });
    Evaluated {
        record: serde_json::from_value(record).unwrap(),
        items: items.map(|item| serde_json::from_value(item).unwrap()).collect(),
    }
}

fn step(tokens_seen: u64, english: u64) -> StepRecord {
    serde_json::from_value(json!({
        "step": 1, "stage": "x", "tokens_seen": tokens_seen, "batch_tokens": 500,
        "target_tokens": 500, "nats": 1.0, "nats_per_source": {},
        "target_tokens_per_source": {"english": english},
        "learning_rate": 1e-3, "gradient_norm": 1.0, "token_digest": "0".repeat(64),
        "seconds": 1.0, "tokens_per_second": 1.0, "mfu": null,
    }))
    .unwrap()
}

fn answer() -> Answer {
    let evaluated = [
        evaluated(0, "start", [1.0, 2.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0, 1, 1, 0]),
        evaluated(500, "tokens", [0.9, 1.9, 2.9, 1.9], [1.0, 1.0, 1.0, 1.0], [0, 1, 1, 1]),
        evaluated(1000, "stage_end", [0.8, 1.7, 2.6, 1.7], [1.2, 1.1, 1.3, 1.2], [1, 0, 1, 1]),
    ];
    let steps = [step(500, 400), step(1000, 100), step(1500, 500)];
    map(Path::new("runs/x"), "x".to_owned(), &evaluated, &steps)
}

#[test]
fn every_row_is_measured_against_the_first_point() {
    let answer = answer();
    let names: Vec<&str> = answer.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["code", "english", "sums"]);
    let moved =
        |row: usize, point: usize| answer.rows[row].cells[point].as_ref().unwrap().since_first;
    assert!(moved(0, 0).is_none());
    // Nothing moved; and where every window moved alike, there is no error to measure it in.
    assert_eq!(moved(0, 1).unwrap().gain_in_errors, Some(0.0));
    let code = moved(0, 2).unwrap();
    assert!((code.difference - 0.2).abs() < 1e-12);
    // The standard error of the mean of 0.2, 0.1, 0.3 and 0.2; more bits are forgotten text.
    let error = (0.02_f64 / 3.0 / 4.0).sqrt();
    assert!((code.standard_error.unwrap() - error).abs() < 1e-12);
    assert!((code.gain_in_errors.unwrap() + 0.2 / error).abs() < 1e-9);
    assert!(moved(1, 2).unwrap().gain_in_errors.unwrap() > 2.0, "english was learnt");
    let sums = moved(2, 2).unwrap();
    assert_eq!((sums.difference, sums.flips), (0.25, Some(Flips { gained: 2, lost: 1 })));
    assert!(sums.gain_in_errors.unwrap() > 0.0);
}

#[test]
fn a_stage_is_set_against_the_tokens_that_it_drew() {
    let answer = answer();
    // The point within the stage is no edge of one.
    let [stage] = &answer.stages[..] else { panic!("one stage") };
    assert_eq!((stage.from_tokens, stage.to_tokens, stage.stage.as_str()), (0, 1000, "to 1000"));
    let [code, english, sums] = &stage.changes[..] else { panic!("three rows") };
    assert_eq!((code.tokens, code.gain_per_billion_tokens), (Some(0), None));
    assert_eq!(english.tokens, Some(500));
    assert!((english.gain - 0.3).abs() < 1e-12);
    assert!((english.gain_per_billion_tokens.unwrap() - 0.3 / 5e-7).abs() < 1e-3);
    assert_eq!((sums.gain, sums.tokens), (0.25, None));
}

#[test]
fn the_map_is_read_and_seen() {
    let answer = answer();
    let text = text::render(&answer);
    for words in ["after to 1000", "at 500", "1.2000 (-4.9)", "+0.3000", "english bits_per_byte"] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let figure = picture::figure(&answer);
    let map = figure.panels[0].map.as_ref().unwrap();
    assert_eq!(map.columns, ["start", "at 500", "after to 1000"]);
    let forgotten = map.cells[0][2].as_ref().unwrap();
    assert_eq!(forgotten.lines, ["1.2000", "+0.2000"]);
    let (lost, gained) =
        (map.color(forgotten.value), map.color(map.cells[1][2].as_ref().unwrap().value));
    let is_nearer = |color: terrace_figure::Color, one: terrace_figure::Color, other| {
        let apart = |to: terrace_figure::Color| {
            let part = |a: u8, b: u8| f64::from(a.abs_diff(b)).powi(2);
            part(color.0, to.0) + part(color.1, to.1) + part(color.2, to.2)
        };
        apart(one) < apart(other)
    };
    assert!(is_nearer(lost, VERMILION, BLUE) && is_nearer(gained, BLUE, VERMILION));
    assert!(figure.svg().unwrap().contains("+0.2000"));
}
