//! The published data, where `scripts/fetch_tasks.sh` has put it; skipped, and said so, where not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use terrace_config::{TaskConfig, load_task};
use terrace_eval::sandbox::{Limits, Sandbox};
use terrace_eval::{Ask, Outcome, prepare};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shipped(name: &str) -> TaskConfig {
    load_task(&root().join(format!("configs/tasks/{name}.toml")), &[]).unwrap().config
}

#[test]
fn published_items_fit_their_tasks() {
    if !root().join("data/tasks").is_dir() {
        println!("skipped: data/tasks is not there");
        return;
    }
    for (name, items) in [
        ("arc-challenge", 1172),
        ("arc-easy", 2376),
        ("boolq", 3270),
        ("commonsense-qa", 1221),
        ("gsm8k", 1319),
        ("hellaswag", 10_042),
        ("humaneval", 164),
        ("math", 5000),
        ("mbpp", 500),
        ("mmlu", 14_042),
        ("openbookqa", 500),
        ("piqa", 1838),
        ("siqa", 1954),
        ("winogrande", 1267),
    ] {
        let mut task = shipped(name);
        // The examples of these are in no package.
        if !task.data.examples.is_empty() && name != "mmlu" {
            task.fewshot.shots = 0;
        }
        let prepared = prepare(&task, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(prepared.len(), items, "{name}");
    }
}

#[test]
fn what_solves_humaneval_passes_and_nothing_else_does() {
    if !root().join("data/tasks/humaneval").is_dir() {
        println!("skipped: data/tasks/humaneval is not there");
        return;
    }
    let sandbox = match Sandbox::new() {
        Ok(sandbox) => sandbox,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let task = shipped("humaneval");
    let limits = Limits {
        // Not a matter of speed here.
        time: Duration::from_secs(60),
        memory: task.code.memory.0,
        processes: task.code.processes,
        output: task.code.output.0,
    };
    let mut passed = [0, 0];
    for item in prepare(&task, None).unwrap() {
        let Ask::Code { prompt, fields } = &item.ask else { panic!("a task of code") };
        let text = |key: &str| fields[key].as_str().unwrap().to_owned();
        for (count, solution) in passed.iter_mut().zip([text("canonical_solution"), String::new()])
        {
            let (test, entry) = (text("test"), text("entry_point"));
            let program = format!("{prompt}{solution}\n{test}\ncheck({entry})");
            *count += u32::from(sandbox.run(&program, &limits).unwrap() == Outcome::Passed);
        }
    }
    assert_eq!(passed, [164, 0]);
}
