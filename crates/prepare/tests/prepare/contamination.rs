use std::path::{Path, PathBuf};

use terrace_config::{Bytes, ContaminationAction, ContaminationConfig, PrepareConfig};
use terrace_data::{Dropped, TaskContamination};
use terrace_eval::contamination::{CONTAMINATION_FILE, ItemContamination};
use terrace_prepare::{Error, Silent, run};

use crate::support::{config, corpus, prepare, sorted, texts, threads, tree, write};

const QUESTION: &str = "If one of two trains leaves the station at noon and the other an hour later, when do \
                        they meet?";

/// Writes a task of these items, whose names are questions and answers.
fn task(home: &Path, name: &str, items: &[(&str, &str)]) -> PathBuf {
    let lines: Vec<String> =
        items.iter().map(|(q, a)| serde_json::json!({"q": q, "a": a}).to_string()).collect();
    let write = |ending: &str, text: &str| {
        let path = home.join(format!("{name}{ending}"));
        terrace_base::fs::write_atomic(&path, text.as_bytes()).unwrap();
        path
    };
    write("-items.jsonl", &lines.join("\n"));
    write(
        ".toml",
        &format!(
            "name = {name:?}\nform = \"generation\"\nmetric = \"exact_match\"\n\
             prompt = \"Question: {{{{q}}}}\\nAnswer:\"\ntarget = \"{{{{a}}}}\"\n\
             data = {{ items = [\"{name}-items.jsonl\"] }}\n"
        ),
    )
}

fn searched(inputs: &[PathBuf], tasks: &[PathBuf], action: ContaminationAction) -> PrepareConfig {
    let contamination = ContaminationConfig {
        tasks: tasks.iter().map(|path| path.display().to_string()).collect(),
        action,
        ngram: 13,
        minimum_words: 8,
        maximum_items: 10,
    };
    PrepareConfig { contamination: Some(contamination), ..config(inputs) }
}

fn items(edition: &Path) -> Vec<ItemContamination> {
    let text = std::fs::read_to_string(edition.join(CONTAMINATION_FILE)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Clean documents, two that have the question, one of them twice, and one that has an answer.
fn leaky() -> (Vec<String>, Vec<String>) {
    let clean = corpus(90, 20);
    let mut all = clean.clone();
    let loud = format!("So: {}\n", QUESTION.to_uppercase().replace(' ', "  "));
    all.insert(3, loud.clone());
    all.insert(30, format!("{} {QUESTION} never {}", clean[0], clean[1]));
    all.insert(60, loud);
    all.push("On a page they say: because a is the sum of b and c.".to_owned());
    (clean, all)
}

fn two_tasks(home: &Path) -> [PathBuf; 2] {
    [
        task(home, "trains", &[(QUESTION, "at three"), ("Too short?", "yes")]),
        task(
            home,
            "answers",
            &[
                ("What is a?", "because a is the sum of b and c"),
                (QUESTION, "never mind any of this"),
            ],
        ),
    ]
}

#[test]
fn documents_with_items_are_dropped_or_flagged_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let (clean, all) = leaky();
    let input = write(home.path(), "jsonl", &all);
    let tasks = two_tasks(home.path());
    for (action, kept) in [(ContaminationAction::Drop, 90), (ContaminationAction::Flag, 93)] {
        let output = home.path().join(format!("{action:?}"));
        let config = searched(std::slice::from_ref(&input), &tasks, action);
        let manifest = prepare(&config, &output).unwrap().manifest;
        assert_eq!(manifest.documents, kept);
        let dropped = match action {
            ContaminationAction::Drop => Dropped { contaminated: 4, ..Dropped::default() },
            ContaminationAction::Flag => Dropped { duplicate: 1, ..Dropped::default() },
        };
        assert_eq!(manifest.counts.dropped, dropped);
        if action == ContaminationAction::Drop {
            assert_eq!(sorted(texts(&output)), sorted(clean.clone()));
        }

        let found = manifest.contamination.as_ref().unwrap();
        let sum = |task: &str, items_without_ngrams, items_found, documents| TaskContamination {
            task: task.to_owned(),
            items: 2,
            items_without_ngrams,
            items_found,
            documents,
        };
        assert_eq!(found.tasks, [sum("answers", 0, 2, 4), sum("trains", 1, 1, 3)]);
        assert_eq!(found.documents, 4);

        let items = items(&output);
        let places: Vec<(&str, usize)> =
            items.iter().map(|item| (item.task.as_str(), item.index)).collect();
        assert_eq!(places, [("answers", 0), ("answers", 1), ("trains", 0), ("trains", 1)]);
        assert!(items.iter().all(|item| item.source == "test" && item.action == action));
        let documents: Vec<u64> = items.iter().map(|item| item.documents).collect();
        assert_eq!(documents, [1, 3, 3, 0]);
        let closest = |item: &ItemContamination| item.closest.as_ref().map(|place| place.row);
        assert_eq!(
            items.iter().map(closest).collect::<Vec<_>>(),
            [Some(93), Some(3), Some(3), None]
        );
        assert_eq!(items[2].share, 1.0);
        assert_eq!((items[0].ngrams, items[2].ngrams, items[3].ngrams), (1, 8, 0));
        terrace_data::verify(&output, &mut |_| ()).unwrap();
    }
}

#[test]
fn threads_memory_and_the_order_of_tasks_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (_, all) = leaky();
    let input = write(home.path(), "parquet", &all);
    let [trains, answers] = two_tasks(home.path());
    let everywhere = home.path().join("*.toml");
    let mut expected = None;
    for (count, budget, tasks) in [
        (1, 1 << 30, vec![trains.clone(), answers.clone()]),
        (3, 1 << 30, vec![answers, trains]),
        (2, 1, vec![everywhere]),
    ] {
        let inputs = std::slice::from_ref(&input);
        let mut config = searched(inputs, &tasks, ContaminationAction::Flag);
        config.memory_budget = Bytes(budget);
        let output = home.path().join(format!("{count}-{budget}"));
        run(&config, &output, &threads(count), &Silent).unwrap();
        let found = tree(&output);
        assert_eq!(&found, expected.get_or_insert_with(|| found.clone()));
    }
}

#[test]
fn an_edition_is_made_again_if_the_tasks_are_others() {
    let home = tempfile::tempdir().unwrap();
    let (_, all) = leaky();
    let input = write(home.path(), "jsonl", &all);
    let tasks = two_tasks(home.path());
    let config = searched(&[input], &tasks, ContaminationAction::Drop);
    let output = home.path().join("edition");
    prepare(&config, &output).unwrap();
    assert!(prepare(&config, &output).unwrap().reused);

    // Without what was found it is not whole, and that it is damaged shows.
    let file = output.join(CONTAMINATION_FILE);
    let bytes = std::fs::read(&file).unwrap();
    terrace_base::fs::write_atomic(&file, &[b"x", &bytes[1..]].concat()).unwrap();
    let problems = terrace_data::verify(&output, &mut |_| ()).unwrap_err();
    assert!(problems[0].to_string().contains(CONTAMINATION_FILE), "{}", problems[0]);
    std::fs::remove_file(&file).unwrap();
    assert!(!prepare(&config, &output).unwrap().reused);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);

    let refused = |config: &PrepareConfig| prepare(config, &output).unwrap_err().to_string();
    let without = PrepareConfig { contamination: None, ..config.clone() };
    assert!(refused(&without).contains("other contamination"), "{}", refused(&without));
    task(home.path(), "trains", &[(QUESTION, "at four")]);
    assert!(refused(&config).contains("other contamination"), "{}", refused(&config));
}

#[test]
fn held_out_documents_stay() {
    let home = tempfile::tempdir().unwrap();
    let (clean, all) = leaky();
    let tasks = two_tasks(home.path());
    let input = write(home.path(), "jsonl", &all);
    let mut config = searched(&[input], &tasks, ContaminationAction::Drop);
    config.held_out =
        crate::support::named(&[write(home.path(), "parquet", &[QUESTION.to_owned()])]);
    let output = home.path().join("edition");
    let report = prepare(&config, &output).unwrap();
    assert_eq!(sorted(texts(&output)), sorted(clean));
    assert_eq!(report.held_out.unwrap().contamination, None);
    assert_eq!(texts(&output.join("held_out")), [QUESTION]);
}

#[test]
fn tasks_that_cannot_be_used_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let (_, all) = leaky();
    let input = write(home.path(), "jsonl", &all);
    let output = home.path().join("edition");
    let refused = |tasks: &[PathBuf]| {
        let config = searched(std::slice::from_ref(&input), tasks, ContaminationAction::Drop);
        let error = prepare(&config, &output).unwrap_err();
        assert!(!output.exists());
        error
    };
    let missing = refused(&[home.path().join("nowhere*.toml")]);
    assert!(missing.to_string().contains("there is no task file"), "{missing}");
    let [trains, _] = two_tasks(home.path());
    let again = home.path().join("again.toml");
    std::fs::copy(&trains, &again).unwrap();
    let twice = refused(&[trains.clone(), again]).to_string();
    assert!(twice.contains("task trains: two of the task files have this name"), "{twice}");
    std::fs::write(home.path().join("trains-items.jsonl"), "{\"q\": 1}").unwrap();
    let unfit = refused(std::slice::from_ref(&trains)).to_string();
    assert!(unfit.contains("task trains, item 0: `target`"), "{unfit}");
    std::fs::write(&trains, "name = 1").unwrap();
    assert!(matches!(refused(&[trains]), Error::TaskFile(_)));

    let mut config = searched(&[input], &[], ContaminationAction::Drop);
    for (ngram, words, name) in [
        (4, 8, "contamination.ngram"),
        (13, 65, "contamination.minimum_words"),
        (13, 8, "contamination.tasks"),
    ] {
        let contamination = config.contamination.as_mut().unwrap();
        (contamination.ngram, contamination.minimum_words) = (ngram, words);
        let error = prepare(&config, &output).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}
