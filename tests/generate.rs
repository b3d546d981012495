//! `terrace generate` from the outside.

use serde_json::Value;

use crate::support::{repository, small_run, terrace, terrace_in};

fn base() -> String {
    repository().join("data/base").display().to_string()
}

#[test]
fn a_prompt_is_continued_the_same_way_each_time() {
    let base = base();
    let prompt = ["generate", &base, "--prompt", "def add(a, b):", "--max-new-tokens", "12"];
    let answer = terrace(prompt.iter().chain(&["--json"])).expect_code(0).json();
    assert_eq!(answer["tokens"].as_array().unwrap().len(), 12, "{answer}");
    assert!(answer["speed"]["decode_tokens_per_second"].as_f64().unwrap() > 0.0, "{answer}");
    let text = answer["text"].as_str().unwrap();
    let outcome = terrace(prompt).expect_code(0);
    assert_eq!(outcome.stdout, format!("{text}\n"));
    assert!(outcome.stderr.contains("tokens/s"), "{outcome}");

    let draw = |seed: &str| {
        let sampling = ["--temperature", "1.5", "--seed", seed];
        terrace(prompt.iter().chain(&sampling)).expect_code(0).stdout
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn a_timeline_tells_the_prompt_from_its_continuation() {
    let home = tempfile::tempdir().unwrap();
    let base = base();
    let prompt = ["generate", &base, "--prompt", "def add(a, b):", "--max-new-tokens", "3"];
    let profile = prompt.iter().chain(&["--profile", "timeline.json"]);
    terrace_in(home.path(), profile).expect_code(0);
    let text = std::fs::read_to_string(home.path().join("timeline.json")).unwrap();
    let events: Vec<Value> = serde_json::from_str(&text).unwrap();
    let begun = |name: &str| events.iter().filter(|e| e["name"] == name && e["ph"] == "B").count();
    // The first token is the prompt's, the last is not looked at again.
    assert_eq!([begun("prefill"), begun("decode"), begun("head")], [1, 2, 3], "{text}");
    assert_eq!(begun("layer"), begun("scores"));
    assert!(begun("layer") > 3 && begun("layer").is_multiple_of(3), "{text}");
}

#[test]
fn a_file_is_answered_in_its_order() {
    let home = tempfile::tempdir().unwrap();
    let base = base();
    let prompts = ["def add(a, b):", "1 + 1 =", "中国"];
    let lines: Vec<String> =
        prompts.iter().map(|prompt| serde_json::json!({"prompt": prompt}).to_string()).collect();
    std::fs::write(home.path().join("prompts.jsonl"), lines.join("\n")).unwrap();
    let always = ["generate", &base, "--max-new-tokens", "8", "--batch-invariant"];
    let run = |arguments: &[&str]| terrace_in(home.path(), always.iter().chain(arguments));
    let answers = run(&["--input", "prompts.jsonl"]).expect_code(0).stdout;
    for (line, prompt) in answers.lines().zip(prompts) {
        let answer: Value = serde_json::from_str(line).unwrap();
        let alone = run(&["--prompt", prompt, "--json"]).expect_code(0).json();
        assert_eq!(answer["prompt"], prompt);
        assert_eq!([&answer["text"], &answer["tokens"]], [&alone["text"], &alone["tokens"]]);
    }
    assert_eq!(answers.lines().count(), 3);
    let written = run(&["--input", "prompts.jsonl", "--output", "answers.jsonl", "--json"]);
    assert_eq!(written.expect_code(0).json()["prompts"], 3);
    assert_eq!(std::fs::read_to_string(home.path().join("answers.jsonl")).unwrap(), answers);
}

#[test]
fn a_run_can_be_asked() {
    let home = tempfile::tempdir().unwrap();
    let rest = "name = \"asked\"\n[batch]\nmode = \"fixed\"\ninitial_tokens = 64\n\
                [[stages]]\nname = \"one\"\nbudget_tokens = 128\nmixture = { apples = 1 }\n";
    small_run(home.path(), rest);
    terrace_in(home.path(), ["train", "run.toml"]).expect_code(0);
    let arguments = ["generate", "run", "--prompt", "apples", "--max-new-tokens", "4", "--json"];
    let answer = terrace_in(home.path(), arguments).expect_code(0).json();
    assert_eq!(answer["tokens"].as_array().unwrap().len(), 4);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let base = base();
    let refused = |arguments: &[&str]| {
        let always = ["generate"];
        terrace_in(home.path(), always.iter().chain(arguments)).expect_code(2).stderr
    };
    std::fs::write(home.path().join("bad.jsonl"), "{\"prompt\": \"a\"}\n{\"text\": 1}\n").unwrap();
    std::fs::write(home.path().join("empty.jsonl"), "{\"prompt\": \"\"}\n").unwrap();
    for (arguments, expected) in [
        (&[&base[..]][..], "--prompt"),
        (&[&base, "--prompt", "a", "--max-new-tokens", "9999"], "--max-new-tokens"),
        (&[&base, "--prompt", "a", "--max-new-tokens", "18446744073709551615"], "--max-new-tokens"),
        (&[&base, "--prompt", &"a b ".repeat(400)], "give a shorter prompt"),
        (&[&base, "--prompt", "a", "--temperature=-1"], "temperature"),
        (&[&base, "--input", "empty.jsonl", "--json"], "--output"),
        (&[&base, "--input", "bad.jsonl"], "line 2"),
        (&[&base, "--input", "empty.jsonl"], "nothing to continue"),
        (&[&base, "--input", "nowhere.jsonl"], "nowhere.jsonl"),
        (&[".", "--prompt", "a"], "config.json"),
    ] {
        let stderr = refused(arguments);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn nothing_is_computed_for_a_file_that_cannot_be_written() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("prompts.jsonl"), "{\"prompt\": \"a\"}\n").unwrap();
    let (base, output) = (base(), "prompts.jsonl/answers.jsonl");
    let arguments = ["generate", &base, "--input", "prompts.jsonl", "--output", output];
    let refused = terrace_in(home.path(), arguments).expect_code(3);
    assert!(refused.stderr.contains("answers.jsonl"), "{refused}");
    assert!(refused.stderr.contains("a folder that exists"), "{refused}");
}
