//! Task files from the outside: what is wrong is said with its place and a remedy.

use terrace_config::{Error, TaskConfig, load_task};

use crate::common::Home;

const TASK: &str = r#"name = "small"
form = "multiple-choice"
metric = "acc"
prompt = "Q: {{question}}\nA:"
options = ["yes", "no"]
answer = "label"

[data]
items = ["items/*.jsonl"]
"#;

fn load(text: &str) -> Result<TaskConfig, Error> {
    let home = Home::new();
    load_task(&home.write("task.toml", text), &[]).map(|loaded| loaded.config)
}

#[test]
fn a_task_has_defaults_and_paths_of_its_own_folder() {
    let home = Home::new();
    let task = load_task(&home.write("tasks/task.toml", TASK), &[]).unwrap().config;
    assert_eq!(task.delimiter, " ");
    assert_eq!(task.fewshot.delimiter, "\n\n");
    let expected = home.path().join("tasks/items/*.jsonl");
    assert_eq!(task.data.items, [expected.to_str().unwrap()]);
    assert_eq!(task.form.metrics(&task), ["acc", "acc_norm", "acc_bytes"]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (from, to, line, words) in [
        ("\"acc\"", "\"acc_nrom\"", 3, "did you mean \"acc_norm\""),
        ("{{question}}", "{{question}", 4, "is not a template"),
        ("\"label\"", "\"label ==\"", 6, "`answer` is not a template"),
        ("answer = \"label\"\n", "", 1, "`answer` is missing"),
        ("options = [\"yes\", \"no\"]\n", "", 2, "expected one of `options`"),
        ("\"items/*.jsonl\"", "\"https://x.org/a\"", 9, "expected a local file"),
        ("\"items/*.jsonl\"", "\"{subset}/a\"", 9, "there is no subset"),
        ("[data]", "fewshot = { shots = 2 }\n[data]", 8, "but no examples"),
        ("[data]", "target = \"x\"\n[data]", 8, "`target` has no meaning here"),
        ("[data]", "generation = { samples = 2 }\n[data]", 8, "at temperature 0"),
        ("[data]", "comparison = { ignore = [\"(\"] }\n[data]", 8, "unclosed group"),
        ("[data]", "optoins = []\n[data]", 8, "did you mean `options`"),
    ] {
        let error = load(&TASK.replace(from, to)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words), "{to}: {text}");
        let place = error.diagnostics()[0].line_and_column().0;
        assert!(place == line || words.contains("missing"), "{to}: line {place}, {text}");
    }
}

#[test]
fn tries_need_samples() {
    let code = r#"name = "x"
form = "code"
metric = "pass@10"
prompt = "x"
data = { items = ["x"] }
code = { program = "x", pass_at = [1, 10] }
generation = { samples = 5, temperature = 0.8 }
"#;
    assert!(load(code).unwrap_err().to_string().contains("1 to generation.samples = 5"));
    assert_eq!(load(&code.replace("samples = 5", "samples = 20")).unwrap().code.pass_at, [1, 10]);
}
