//! Tasks that leaked into documents: `terrace prepare` finds them, `terrace eval` scores them apart.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{repository, terrace_in};

const STORY: &str = r#"name = "story"
group = "text"
form = "multiple-choice"
metric = "acc"
prompt = "Question: {{q}}\nAnswer:"
options_from = "o"
answer = "a"
data = { items = ["story.jsonl"] }
"#;
const CHINESE: &str = r#"name = "chinese"
form = "multiple-choice"
metric = "acc"
prompt = "{{q}}\nA. {{o[0]}}\nB. {{o[1]}}\n答案："
options = ["A", "B"]
answer = "a"
data = { items = ["chinese.jsonl"] }
"#;
const PROGRAM: &str = r#"name = "program"
group = "code"
form = "code"
metric = "pass@1"
prompt = "{{prompt}}"
code = { program = "{{prompt}}{{completion}}\n{{test}}" }
data = { items = ["program.jsonl"] }
"#;

const FOX: &str =
    "Which animal jumped over the lazy dog while all the others were still asleep at noon?";
const RIVER: &str =
    "How many days does a boat of that kind take from the spring of a river to its mouth?";
const SNOW: &str =
    "Why do people in the mountains stack their wood before the first snow of a winter falls?";
const LUNYU: &str = "子曰学而时习之不亦说乎有朋自远方来不亦乐乎，这句话出自哪里？";
const SHIJING: &str = "关关雎鸠在河之洲窈窕淑女君子好逑，这首诗是哪一部书的第一篇？";
const SOLUTION: &str = "    seen = set()\n    for name in sorted(names):\n        key = name.strip().casefold()\n        \
                        if key not in seen:\n            seen.add(key)\n            yield name\n";

fn write(home: &Path, name: &str, text: &str) {
    std::fs::write(home.join(name), text).unwrap();
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

/// Three tasks; and two sources of fifty clean documents each, into which items leaked: two questions in
/// English and a poem's in Chinese into `web`, a solution and one of those questions into `code`.
fn leak(home: &Path) {
    write(home, "story.toml", STORY);
    write(home, "chinese.toml", CHINESE);
    write(home, "program.toml", PROGRAM);
    let choice = |q: &str, a: u8| json!({"q": q, "o": ["The fox.", "Nobody at all."], "a": a});
    let story = [choice(FOX, 0), choice(RIVER, 1), choice(SNOW, 1), choice("Why?", 0)];
    write(home, "story.jsonl", &lines(&story));
    let choice = |q: &str| json!({"q": q, "o": ["论语", "诗经"], "a": 1});
    write(home, "chinese.jsonl", &lines(&[choice(LUNYU), choice(SHIJING)]));
    let program =
        |solution: &str| json!({"prompt": "def f(names):\n", "solution": solution, "test": "f"});
    let clean = SOLUTION.replace("seen", "known").replace("name", "word").replace("key", "form");
    write(home, "program.jsonl", &lines(&[program(SOLUTION), program(&clean)]));

    let clean = |source: &str| -> Vec<Value> {
        let text =
            |i: usize| format!("{source} {i}: def count(n): return {}", "n + 1 ".repeat(i % 9));
        (0..50).map(|i| json!({"text": text(i)})).collect()
    };
    let document = |text: String| json!({"text": text});
    let mut web = clean("web");
    web.insert(7, document(format!("A riddle. {}", FOX.to_uppercase())));
    web.insert(9, document(format!("<p>{}</p>", FOX.replace(' ', " - "))));
    web.push(document(format!("He asked: \"{RIVER}\" Nobody knew.")));
    web.push(document(format!("题目：{}", SHIJING.replace("，", "。\n"))));
    let mut code = clean("code");
    code.push(document(format!("def unique(names):\n{}", SOLUTION.replace("    ", "\t"))));
    code.push(document(format!("# {RIVER}\nprint(7)\n")));
    for (name, documents) in [("web", web), ("code", code)] {
        write(home, &format!("{name}.jsonl"), &lines(&documents));
        let tokenizer = repository().join("crates/tokenizer/tests/fixtures/byte_level.json");
        let text = format!(
            "source = {name:?}\ntokenizer = {tokenizer:?}\nsequence_length = 32\npartitions = 2\n\
             [[inputs]]\npaths = [\"{name}.jsonl\"]\n\
             [contamination]\ntasks = [\"story.toml\", \"chinese.toml\", \"program.toml\"]\n"
        );
        write(home, &format!("prepare-{name}.toml"), &text);
    }
}

/// Prepares both sources.
fn prepare(home: &Path, action: &str) -> [Value; 2] {
    ["web", "code"].map(|source| {
        let file = format!("prepare-{source}.toml");
        let output = format!("{action}-{source}");
        let set = format!("contamination.action={action}");
        let arguments = ["prepare", &file, "--output", &output, "--set", &set, "--json"];
        terrace_in(home, arguments).expect_code(0).json()
    })
}

/// Of each task: items, those that were found, documents that have them.
fn found(answer: &Value) -> Vec<(&str, [u64; 3])> {
    let count = |task: &Value, key: &str| task[key].as_u64().unwrap();
    let tasks = answer["contamination"]["tasks"].as_array().unwrap();
    let of = |task: &Value| ["items", "items_found", "documents"].map(|key| count(task, key));
    tasks.iter().map(|task| (task["task"].as_str().unwrap(), of(task))).collect()
}

#[test]
fn leaks_are_dropped_or_flagged_and_counted_by_task_and_source() {
    let home = tempfile::tempdir().unwrap();
    leak(home.path());
    for (action, kept) in [("drop", [50, 50]), ("flag", [54, 52])] {
        let answers = prepare(home.path(), action);
        for (answer, kept) in answers.iter().zip(kept) {
            assert_eq!(answer["counts"]["kept"], kept, "{answer}");
            let dropped = answer["counts"]["read"].as_u64().unwrap() - kept;
            assert_eq!(answer["counts"]["dropped"]["contaminated"], dropped, "{answer}");
        }
        let [web, code] = &answers;
        let expected = [("chinese", [2, 1, 1]), ("program", [2, 0, 0]), ("story", [4, 2, 3])];
        assert_eq!(found(web), expected);
        let expected = [("chinese", [2, 0, 0]), ("program", [2, 1, 1]), ("story", [4, 1, 1])];
        assert_eq!(found(code), expected);
        assert_eq!(
            (&web["contamination"]["documents"], &code["contamination"]["documents"]),
            (&4.into(), &2.into())
        );

        let edition = format!("{action}-web");
        let text = std::fs::read_to_string(home.path().join(&edition).join("contamination.jsonl"));
        let items: Vec<Value> =
            text.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let fox = items.iter().find(|item| item["task"] == "story" && item["index"] == 0).unwrap();
        assert_eq!(
            (&fox["documents"], &fox["share"], &fox["source"]),
            (&2.into(), &1.0.into(), &"web".into())
        );
        assert_eq!(fox["closest"], json!({"file": "web.jsonl", "row": 7}));

        let inspected =
            terrace_in(home.path(), ["inspect", &edition, "--json"]).expect_code(0).json();
        assert_eq!(inspected["contamination"], web["contamination"]);
        let people = terrace_in(home.path(), ["inspect", &edition]).expect_code(0).stderr;
        assert!(
            people.contains("documents that have them") && people.contains("chinese"),
            "{people}"
        );
    }
    let again = ["prepare", "prepare-web.toml", "--output", "drop-web"];
    let again = terrace_in(home.path(), again).expect_code(0);
    assert!(
        again.stderr.contains("is there already") && again.stderr.contains("program"),
        "{again}"
    );
}

#[test]
fn leaked_items_are_scored_apart() {
    let home = tempfile::tempdir().unwrap();
    leak(home.path());
    prepare(home.path(), "flag");
    prepare(home.path(), "drop");
    let base = repository().join("data/base").display().to_string();
    let eval = |sources: [&str; 2], more: &[&str]| {
        let arguments = ["eval", &base, "--tasks", "story.toml", "chinese.toml", "--contamination"];
        terrace_in(home.path(), arguments.iter().chain(&sources).chain(more)).expect_code(0)
    };
    // A folder or the file in it.
    let sources = ["flag-web", "flag-code/contamination.jsonl"];
    let answer = eval(sources, &["--json", "--log-items", "log.jsonl"]).json();
    let log = std::fs::read_to_string(home.path().join("log.jsonl")).unwrap();
    let log: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The shortest question is neither.
    for (task, clean, flagged, unknown) in [(0, vec![2], vec![0, 1], 1), (1, vec![0], vec![1], 0)] {
        let task = &answer["tasks"][task];
        let apart = &task["contamination"];
        assert_eq!((&apart["unknown"], &apart["dropped"]), (&unknown.into(), &0.into()), "{task}");
        for (part, places) in [("clean", clean), ("flagged", flagged)] {
            let is_of = |record: &&Value| {
                record["task"] == task["name"]
                    && places.contains(&record["index"].as_u64().unwrap())
            };
            let scores = log.iter().filter(is_of).map(|r| r["metrics"]["acc"].as_f64().unwrap());
            let scores: Vec<f64> = scores.collect();
            assert_eq!(
                (scores.len(), apart[part]["items"].as_u64()),
                (places.len(), Some(places.len() as u64))
            );
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            assert_eq!(apart[part]["metrics"]["acc"]["value"], mean, "{task}");
        }
    }
    // What was left out of the sources was not learnt from them.
    let dropped = eval(["drop-web", "drop-code"], &["--json"]).json();
    let apart = &dropped["tasks"][0]["contamination"];
    let counts = ["flagged", "clean"].map(|part| apart[part]["items"].as_u64().unwrap());
    assert_eq!((counts, &apart["dropped"]), ([0, 3], &2.into()), "{apart}");
    let people = eval(["drop-web", "drop-code"], &[]).stderr;
    assert!(
        people.contains("flagged items") && people.contains("story: 2 of the clean items"),
        "{people}"
    );
}

#[test]
fn what_cannot_be_looked_for_is_refused() {
    let home = tempfile::tempdir().unwrap();
    leak(home.path());
    let refusal = |arguments: &[&str]| {
        let answer = terrace_in(home.path(), arguments.iter().chain(&["--json"]));
        answer.expect_code(2).json()["error"].clone()
    };
    let prepare =
        |set: &str| refusal(&["prepare", "prepare-web.toml", "--output", "x", "--set", set]);
    let error = prepare("contamination.tasks=[\"nowhere.toml\"]");
    assert!(error["message"].as_str().unwrap().contains("there is no task file"), "{error}");
    let error = prepare("contamination.ngrams=13");
    assert!(error["help"].as_str().unwrap().contains("`ngram`"), "{error}");
    write(home.path(), "story.toml", &STORY.replace("metric = \"acc\"", "metric = \"f1\""));
    let error = prepare("contamination.ngram=10");
    assert!(error["file"].as_str().unwrap().ends_with("story.toml"), "{error}");
    assert_eq!(error["line"], 4, "{error}");
    write(home.path(), "story.toml", STORY);
    std::fs::remove_file(home.path().join("story.jsonl")).unwrap();
    let error = prepare("contamination.ngram=10");
    assert!(error["message"].as_str().unwrap().contains("story.jsonl"), "{error}");
    assert!(!home.path().join("x").exists());

    let error = refusal(&["eval", "nowhere", "--tasks", "chinese.toml", "--contamination", "."]);
    assert!(error["message"].as_str().unwrap().contains("contamination.jsonl"), "{error}");
}
