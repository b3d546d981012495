//! Scores in closed form, logs that are gone on with, comparisons.

use terrace_base::Seed;
use terrace_completion::LanguageModel;
use terrace_eval::{Detail, ItemRecord, Observer, Settings, compare, read_log, run};

use crate::support::{END, Home, log_probability, model};

const CHOICE: &str = r#"name = "choice"
group = "text"
form = "multiple-choice"
metric = "acc_norm"
prompt = "Q: {{q}}\nA:"
options_from = "o"
answer = "a"
fewshot = { shots = 1 }
data = { items = ["items.jsonl"], examples = ["examples.jsonl"] }
"#;

const ITEMS: &str = r#"{"q": "why?", "o": ["yes", "not at all"], "a": 0}
{"q": "who? ", "o": ["he", "数学"], "a": 1}
{"q": "x", "o": ["a", "b", "a"], "a": "b"}
"#;

fn choice(home: &Home) -> Settings {
    home.write("items.jsonl", ITEMS);
    home.write("examples.jsonl", "{\"q\": \"how?\", \"o\": [\"so\", \"thus\"], \"a\": 1}\n");
    Settings {
        log: Some(home.path().join("log.jsonl")),
        ..Settings::new(vec![home.task(CHOICE)], "m")
    }
}

#[test]
fn every_log_probability_is_that_of_the_model() {
    let home = Home::new();
    let (tokenizer, mut model) = (home.tokenizer(), model(200));
    let settings = choice(&home);
    let report = run(&settings, &mut model, &tokenizer, &mut ()).unwrap();
    let records = read_log(settings.log.as_ref().unwrap()).unwrap();
    assert_eq!(records.len(), 3);
    let mut hits = 0.0;
    for (question, options, answer) in [
        ("why?", &["yes", "not at all"][..], 0),
        ("who? ", &["he", "数学"], 1),
        ("x", &["a", "b", "a"], 1),
    ] {
        let context = format!("Q: how?\nA: thus\n\nQ: {question}\nA:");
        let record = records
            .iter()
            .find(|record| match &record.detail {
                Detail::MultipleChoice { log_probabilities, .. } => {
                    let expected = log_probability(&model, &context, &format!(" {}", options[0]));
                    (log_probabilities[0] - expected).abs() < 1e-5
                }
                _ => false,
            })
            .unwrap();
        let Detail::MultipleChoice { log_probabilities, answer: right, .. } = &record.detail else {
            unreachable!()
        };
        assert_eq!(*right, answer);
        let norms = log_probabilities.iter().zip(options).map(|(found, option)| {
            let expected = log_probability(&model, &context, &format!(" {option}"));
            assert!((found - expected).abs() < 1e-5, "{option}: {found} {expected}");
            expected / option.chars().count() as f64
        });
        let norms: Vec<f64> = norms.collect();
        let best = (0..norms.len()).rev().max_by(|a, b| norms[*a].total_cmp(&norms[*b])).unwrap();
        assert_eq!(record.metrics["acc_norm"], f64::from(u8::from(best == answer)));
        hits += record.metrics["acc_norm"];
    }
    let estimate = report.tasks[0].metrics["acc_norm"];
    assert!((estimate.value - hits / 3.0).abs() < 1e-12);
    assert!(report.to_string().contains("choice"), "{report}");
    assert_eq!(model.pending(), 0);
}

#[derive(Default)]
struct Counts {
    known: usize,
    scored: usize,
}

impl Observer for Counts {
    fn begins(&mut self, _task: &str, _items: usize, known: usize) {
        self.known += known;
    }

    fn scored(&mut self, _record: &ItemRecord, _done: usize, _items: usize) {
        self.scored += 1;
    }
}

#[test]
fn what_the_log_holds_is_not_asked_again() {
    let home = Home::new();
    let (tokenizer, mut model) = (home.tokenizer(), model(200));
    let settings = choice(&home);
    let log = settings.log.clone().unwrap();
    let mut counts = Counts::default();
    let report = run(&settings, &mut model, &tokenizer, &mut counts).unwrap();
    assert_eq!((counts.known, counts.scored), (0, 3));

    // Killed in the middle of its third line.
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 20]).unwrap();
    let mut counts = Counts::default();
    assert_eq!(run(&settings, &mut model, &tokenizer, &mut counts).unwrap(), report);
    assert_eq!((counts.known, counts.scored), (2, 1));
    assert_eq!(read_log(&log).unwrap().len(), 3);

    // Another model, other examples: all is asked again.
    let mut counts = Counts::default();
    let other = Settings { model: "other".to_owned(), ..settings.clone() };
    run(&other, &mut model, &tokenizer, &mut counts).unwrap();
    assert_eq!((counts.known, counts.scored), (0, 3));
    home.write("examples.jsonl", "{\"q\": \"?\", \"o\": [\"so\"], \"a\": 0}\n");
    let mut counts = Counts::default();
    run(&settings, &mut model, &tokenizer, &mut counts).unwrap();
    assert_eq!((counts.known, counts.scored), (0, 3));

    std::fs::write(&log, "{}\n").unwrap();
    let error = run(&settings, &mut model, &tokenizer, &mut ()).unwrap_err().to_string();
    assert!(
        error.contains("log.jsonl:1: ") && error.contains("move a damaged one away"),
        "{error}"
    );
}

#[test]
fn a_long_context_is_cut_from_the_left() {
    let home = Home::new();
    let (tokenizer, mut model) = (home.tokenizer(), model(16));
    let settings = choice(&home);
    let report = run(&settings, &mut model, &tokenizer, &mut ()).unwrap();
    assert_eq!(report.tasks[0].cut, 3);
    let records = read_log(settings.log.as_ref().unwrap()).unwrap();
    let Detail::MultipleChoice { log_probabilities, .. } = &records[0].detail else { panic!() };
    // A bigram sees one token back: what is cut changes nothing.
    let expected = log_probability(&model, ":", " yes");
    assert!((log_probabilities[0] - expected).abs() < 1e-5);
    assert!(report.to_string().contains("3 of 3 items were cut"), "{report}");
}

#[test]
fn bits_per_byte_are_those_of_the_model_whatever_the_windows() {
    let home = Home::new();
    let tokenizer = home.tokenizer();
    let texts = ["one text\nof two lines", "数学", ""];
    let lines: Vec<String> =
        texts.iter().map(|text| serde_json::json!({"text": text}).to_string()).collect();
    home.write("en.jsonl", &lines.join("\n"));
    home.write("zh.jsonl", &lines[1]);
    let task = home.task(
        r#"name = "held-out"
form = "perplexity"
metric = "bits_per_byte"
prompt = "{{text}}"
[data]
items = ["{subset}.jsonl"]
subsets = { en = "", zh = "" }
"#,
    );
    for context_length in [8, 200] {
        let mut model = model(context_length);
        let settings = Settings::new(vec![task.clone()], "m");
        let report = run(&settings, &mut model, &tokenizer, &mut ()).unwrap();
        let all = [texts[0], texts[1], texts[2], texts[1]];
        let nats: f64 = all.iter().map(|text| log_probability(&model, "", text)).sum();
        let bytes: usize = all.iter().map(|text| text.len()).sum();
        let expected = -nats / bytes as f64 / std::f64::consts::LN_2;
        let found = report.tasks[0].metrics["bits_per_byte"];
        assert!((found.value - expected).abs() < 1e-5, "{} {expected}", found.value);
        assert_eq!(found.standard_error, None);
        let zh = -log_probability(&model, "", texts[1]) / 6.0 / std::f64::consts::LN_2;
        assert!((report.tasks[0].subsets["zh"]["bits_per_byte"].value - zh).abs() < 1e-5);
    }
}

#[test]
fn what_is_generated_is_compared_with_the_target() {
    let home = Home::new();
    let (tokenizer, mut model) = (home.tokenizer(), model(64));
    // What greedy decoding writes behind ":", four tokens long.
    let mut last = u32::from(b':') + 1;
    let mut written = Vec::new();
    for _ in 0..4 {
        last = model.likeliest(last);
        assert_ne!(last, END, "the seed was chosen so that the text goes on");
        written.push(u8::try_from(last - 1).unwrap());
    }
    let text: String =
        written.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
    let items =
        [serde_json::json!({"q": "1:", "t": text}), serde_json::json!({"q": "2:", "t": "no"})];
    home.write("items.json", &serde_json::Value::from(items.to_vec()).to_string());
    let task = home.task(
        r#"name = "write"
form = "generation"
metric = "exact_match"
prompt = "{{q}}"
target = "{{t}}"
generation = { max_new_tokens = 4 }
data = { items = ["items.json"] }
"#,
    );
    let report = run(&Settings::new(vec![task], "m"), &mut model, &tokenizer, &mut ()).unwrap();
    let score = report.tasks[0].metrics["exact_match"];
    assert_eq!(score.value, 0.5);
    assert_eq!(score.standard_error, Some(0.5));
}

#[test]
fn two_logs_are_compared_item_by_item() {
    let home = Home::new();
    let (tokenizer, mut model) = (home.tokenizer(), model(200));
    let settings = choice(&home);
    run(&settings, &mut model, &tokenizer, &mut ()).unwrap();
    let before = read_log(settings.log.as_ref().unwrap()).unwrap();
    let same = compare(&before, &before, Seed(1));
    assert_eq!(same.tasks[0].items, 3);
    assert_eq!(same.tasks[0].difference, 0.0);
    assert_eq!(same.tasks[0].flips.unwrap().gained, 0);
    assert_eq!(same.tasks[0].mcnemar.unwrap().p_value, 1.0);

    let mut after = before.clone();
    for record in &mut after {
        record.metrics.insert("acc_norm".to_owned(), 1.0);
    }
    after[0].item = terrace_base::Fingerprint::of_bytes(b"asked in another way");
    let other = compare(&before, &after, Seed(1));
    let task = &other.tasks[0];
    assert_eq!((task.items, task.unpaired), (2, 1));
    assert!((task.difference - (1.0 - task.before)).abs() < 1e-12);
    assert_eq!(task.flips.unwrap().lost, 0);
    assert_eq!(other.groups.len(), 1);
    assert!(other.to_string().contains("not asked in the same way"), "{other}");
}

#[test]
fn what_does_not_fit_is_said_before_the_model_is_asked() {
    let home = Home::new();
    let (tokenizer, mut model) = (home.tokenizer(), model(200));
    let mut failure = |settings: &Settings| {
        let error = run(settings, &mut model, &tokenizer, &mut ()).unwrap_err();
        error.to_string()
    };
    let settings = choice(&home);
    home.write("items.jsonl", "{\"q\": \"x\", \"o\": [\"a\"], \"a\": 1}\n");
    let text = failure(&settings);
    assert!(text.contains("task choice, item 0: `answer`: found 1"), "{text}");
    home.write("items.jsonl", "{\"q\": \"x\", \"a\": 1}\n");
    let text = failure(&settings);
    assert!(text.contains("`options_from`"), "{text}");
    home.write("items.jsonl", "not json\n");
    assert!(failure(&settings).contains("items.jsonl: is no JSON"));
    home.write("items.jsonl", "\n");
    assert!(failure(&settings).contains("no items"));
    std::fs::remove_file(home.path().join("items.jsonl")).unwrap();
    assert!(failure(&settings).contains("there is no file"));
    let twice =
        Settings { tasks: vec![settings.tasks[0].clone(), settings.tasks[0].clone()], ..settings };
    assert!(failure(&twice).contains("two of this name"));
}
