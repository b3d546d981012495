//! Mixtures that change within a stage, and the file of `terrace mix`.

use crate::common::{Home, RUN};
use serde_json::json;
use terrace_base::Tokens;
use terrace_config::{Error, PlanOptions, gather, load, load_mixture, render, resolve};

/// The small run with a change in its first stage.
fn changed(after: &str, mixture: &str) -> String {
    let change = format!(
        "budget_tokens = \"1K\"\nmixture_changes = [{{ after_tokens = {after}, mixture = {mixture} }}]"
    );
    RUN.replace("budget_tokens = \"1K\"", &change)
}

fn message(result: Result<impl Sized, Error>) -> String {
    result.err().expect("it is refused").to_string()
}

#[test]
fn a_change_is_written_and_read_back() {
    let home = Home::new();
    let loaded = home.load(&changed("304", "{ code = 1 }")).unwrap();
    let change = &loaded.config.stages[0].mixture_changes[0];
    assert_eq!(change.after_tokens, Tokens(304));
    let path = home.write("again.toml", &loaded.config.to_toml().unwrap());
    assert_eq!(load(&path, &[]).unwrap().config, loaded.config);
}

#[test]
fn a_plan_counts_every_segment() {
    let home = Home::new();
    let text = changed("304", "{ code = 1 }");
    let plan = |text: &str| {
        let loaded = home.load(text).unwrap();
        resolve(&loaded, &gather(&loaded.config).unwrap(), &PlanOptions::default())
    };
    let stage = plan(&text).unwrap().stages.remove(0);
    let windows: Vec<_> = stage.mixture.iter().map(|s| (s.source.as_str(), s.windows)).collect();
    // A quarter of 30, rounded, and 70.
    assert_eq!(windows.iter().map(|(_, windows)| windows).sum::<u64>(), 100);
    assert!(matches!(windows[..], [("code", 77 | 78), ("text", 22 | 23)]), "{windows:?}");
    assert_eq!((stage.mixture[0].weight, stage.mixture[0].weight_end), (0.25, Some(1.0)));
    assert_eq!(stage.mixture_changes[0].after_tokens, 300);
    let text_of = render(&plan(&text).unwrap());
    assert!(text_of.contains("after 300 tokens of it: code 100.00%"), "{text_of}");

    // The caps hold over all of them.
    let manifest = json!({
        "sequence_length": 10, "windows": 77, "tokens": 770, "vocab_size": 32,
        "tokenizer": "aa", "fingerprint": "bb",
    });
    home.write("data/code/manifest.json", &manifest.to_string());
    let capped = text.replace("edition = \"data/code\"", "edition = \"data/code\"\nmax_epochs = 1");
    let refusal = message(plan(&capped));
    assert!(refusal.contains("stage \"one\" needs 78 windows of \"code\""), "{refusal}");
    assert!(refusal.contains("still to come of this stage"), "{refusal}");
}

#[test]
fn a_change_out_of_place_is_refused() {
    let home = Home::new();
    for after in ["0", "9", "1_000", "2_000"] {
        let refusal = message(home.load(&changed(after, "{ code = 1 }")));
        assert!(refusal.contains("stages.0.mixture_changes.0.after_tokens"), "{refusal}");
        assert!(refusal.contains("more than 0 and less than the stage's 1000"), "{refusal}");
    }
    let refusal = message(home.load(&changed("300", "{ cod = 1 }")));
    assert!(refusal.contains("there is no source `cod`"), "{refusal}");
    let refusal = message(home.load(&changed("300", "{ code = 0 }")));
    assert!(refusal.contains("stages.0.mixture_changes.0.mixture`: all weights"), "{refusal}");
}

#[test]
fn a_mixture_file_is_checked_against_the_sources() {
    let home = Home::new();
    let read = |text: &str| load_mixture(&home.write("mix.toml", text), &["code", "text"]);
    let file = read("mixture = { code = 0.2, text = 0.8 }\nmixture_end = { code = 1 }").unwrap();
    assert_eq!(file.mixture.len(), 2);
    assert!(file.mixture_end.is_some());
    for (text, expected) in [
        (
            "mixture = { coed = 1 }",
            "mix.toml:1:20: there is no source `coed` (did you mean `code`?)",
        ),
        ("mixture = { code = 0 }", "`mixture`: all weights are zero"),
        ("mixture = { code = 1 }\nmixture_end = { text = 0 }", "`mixture_end`: all weights"),
        ("mix = { code = 1 }", "unknown key `mix`"),
        ("code = 1", "unknown key `code`"),
        ("", "the key `mixture` is missing"),
    ] {
        let refusal = message(read(text));
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
    assert!(message(load_mixture(&home.path().join("none.toml"), &[])).contains("cannot read"));
}
