//! What an item says by itself, and scores on clean items apart from flagged ones.

use terrace_config::ContaminationAction;
use terrace_eval::contamination::{
    CONTAMINATION_FILE, Content, Flagged, ItemContamination, contents,
};
use terrace_eval::{ItemRecord, Settings, read_log, run};

use crate::support::{Home, model};

const CHOICE: &str = r#"name = "choice"
form = "multiple-choice"
metric = "acc"
description = "Answer all questions.\n\n"
prompt = "Question: {{q}}\nA. {{o[0]}}\nAnswer:"
options_from = "o"
answer = "a"
fewshot = { shots = 1 }
data = { items = ["items.jsonl"], examples = ["examples.jsonl"] }
"#;

fn passages(home: &Home, task: &str, items: &str) -> Vec<Vec<String>> {
    home.write("items.jsonl", items);
    let contents = contents(&home.task(task), None).unwrap_or_else(|error| panic!("{error}"));
    contents.into_iter().map(|content| content.passages).collect()
}

#[test]
fn an_item_is_its_own_text_without_the_words_of_all() {
    let home = Home::new();
    let items = "{\"q\": \"why is it?\", \"o\": [\"so\", \"数学\"], \"a\": 0}\n\
                 {\"q\": \"who?\", \"o\": [\"he\"], \"a\": 0}\n";
    // The examples are not looked at, and need not be there.
    assert_eq!(
        passages(&home, CHOICE, items),
        [vec!["why is it?", "so", "数学"], vec!["who?", "he"]]
    );

    let letters = r#"name = "letters"
form = "multiple-choice"
metric = "acc"
prompt = "{{q.strip()}}\nA. {{o[0]}}\nB. {{o[1]}}\nAnswer:"
options = ["A", "B"]
answer = "a"
data = { items = ["items.jsonl"] }
"#;
    let item = "{\"q\": \" why? \", \"o\": [\"one\", \"two\"], \"a\": \"B\"}";
    assert_eq!(passages(&home, letters, item), [["why?", "one", "two"]]);

    let contexts = r#"name = "contexts"
form = "multiple-choice"
metric = "acc"
prompts = ["{{s}} {{x}}", "{{s}} {{y}}"]
target = "{{t}}"
answer = "0"
data = { items = ["items.jsonl"] }
"#;
    let item = "{\"s\": \"it was\", \"x\": \"hot\", \"y\": \"wet\", \"t\": \"there.\"}";
    let expected = ["it was hot", "it was hot there.", "it was wet", "it was wet there."];
    assert_eq!(passages(&home, contexts, item), [expected]);

    let generation = r#"name = "generation"
form = "generation"
metric = "exact_match"
prompt = "Q: {{q}}\nA:"
target = "{{a.value}}"
data = { items = ["items.jsonl"] }
"#;
    let item =
        "{\"q\": \"1 + 1?\", \"a\": {\"value\": \"2\", \"how\": \"by adding\"}, \"level\": 1}";
    assert_eq!(passages(&home, generation, item), [["1 + 1?", "2", "by adding"]]);

    let code = r#"name = "code"
form = "code"
metric = "pass@1"
prompt = "Write this: {{text}}"
code = { program = "{{completion}}" }
data = { items = ["items.jsonl"] }
"#;
    let item =
        "{\"text\": \"a sum\", \"code\": \"a + b\", \"tests\": [\"assert 1\", \"assert 2\"]}";
    assert_eq!(passages(&home, code, item), [["a sum", "a + b", "assert 1\nassert 2"]]);
}

#[test]
fn an_item_is_known_by_its_text_alone() {
    let home = Home::new();
    let hashes = |task: &str, items: &str| {
        home.write("items.jsonl", items);
        let contents = contents(&home.task(task), None).unwrap();
        contents.iter().map(Content::hash).collect::<Vec<_>>()
    };
    let [one, two] =
        ["why", "how"].map(|q| format!("{{\"q\": \"{q}\", \"o\": [\"x\"], \"a\": 0}}\n"));
    let before = hashes(CHOICE, &format!("{one}{two}"));
    assert_ne!(before[0], before[1]);
    let other = CHOICE.replace("shots = 1", "shots = 0").replace("Answer:", "It is:");
    assert_eq!(hashes(&other, &format!("{two}{one}")), [before[1], before[0]]);
    let shorter = CHOICE.replace("{{q}}", "{{q[:2]}}");
    assert_ne!(hashes(&shorter, &one)[0], before[0]);
}

/// A line of the file of a source.
fn line(content: &Content, documents: u64, action: ContaminationAction) -> String {
    let item = ItemContamination {
        task: "choice".to_owned(),
        subset: content.subset.clone(),
        index: content.index,
        item: content.hash(),
        source: "source".to_owned(),
        action,
        ngrams: 1,
        documents,
        share: if documents > 0 { 1.0 } else { 0.0 },
        closest: None,
    };
    serde_json::to_string(&item).unwrap() + "\n"
}

#[test]
fn clean_items_are_scored_apart_from_flagged_ones() {
    let home = Home::new();
    let items: Vec<String> = (0..9)
        .map(|i| {
            format!(
                "{{\"q\": \"is it {i}?\", \"o\": [\"yes {i}\", \"not {i}\"], \"a\": {}}}",
                i % 2
            )
        })
        .collect();
    home.write("items.jsonl", &items.join("\n"));
    home.write("examples.jsonl", "{\"q\": \"?\", \"o\": [\"so\"], \"a\": 0}\n");
    let task = home.task(CHOICE);
    let contents = contents(&task, None).unwrap();
    // Two flagged, one of them in another source only; one whose documents were dropped; two unknown.
    let (drop, flag) = (ContaminationAction::Drop, ContaminationAction::Flag);
    let lines: Vec<String> =
        contents[..8].iter().map(|item| line(item, u64::from(item.index == 1), flag)).collect();
    home.write(&format!("one/{CONTAMINATION_FILE}"), &lines.concat());
    let lines: Vec<String> = contents[..7]
        .iter()
        .map(|item| match item.index {
            2 => line(item, 3, flag),
            3 => line(item, 1, drop),
            _ => line(item, 0, drop),
        })
        .collect();
    home.write(&format!("two/{CONTAMINATION_FILE}"), &lines.concat());
    let paths = ["one", "two"].map(|name| home.path().join(name));

    let (tokenizer, mut model) = (home.tokenizer(), model(200));
    let settings = Settings {
        log: Some(home.path().join("log.jsonl")),
        flagged: Some(Flagged::read(&paths).unwrap()),
        ..Settings::new(vec![task], "m")
    };
    let report = run(&settings, &mut model, &tokenizer, &mut ()).unwrap();
    let records = read_log(settings.log.as_ref().unwrap()).unwrap();
    let apart = report.tasks[0].contamination.as_ref().unwrap();
    assert_eq!((apart.unknown, apart.dropped), (2, 1));
    for (part, places) in [(&apart.clean, &[0, 3, 4, 5, 6][..]), (&apart.flagged, &[1, 2])] {
        let chosen = |record: &&ItemRecord| places.contains(&record.index);
        let scores: Vec<f64> = records.iter().filter(chosen).map(|r| r.metrics["acc"]).collect();
        assert_eq!(part.items, scores.len());
        let (n, mean) = (scores.len() as f64, scores.iter().sum::<f64>() / scores.len() as f64);
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let estimate = part.metrics["acc"];
        assert!((estimate.value - mean).abs() < 1e-12);
        assert!((estimate.standard_error.unwrap() - (variance / n).sqrt()).abs() < 1e-12);
    }
    let shown = report.to_string();
    assert!(
        shown.contains("clean items") && shown.contains("choice: 2 of 9 items are neither"),
        "{shown}"
    );
    assert!(shown.contains("choice: 1 of the clean items had documents"), "{shown}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["tasks"][0]["contamination"]["flagged"]["items"], 2);

    // All is as before where nothing is known.
    let whole =
        run(&Settings { flagged: None, ..settings }, &mut model, &tokenizer, &mut ()).unwrap();
    assert_eq!(whole.tasks[0].metrics, report.tasks[0].metrics);
    assert!(serde_json::to_value(&whole).unwrap()["tasks"][0].get("contamination").is_none());
    assert!(!whole.to_string().contains("clean"), "{whole}");
}
