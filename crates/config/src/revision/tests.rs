//! Revisions of a small run, at different places of it.

use std::path::Path;

use super::*;
use crate::load::Loaded;
use crate::mixture_file::MixtureFile;
use crate::segments::MixtureChange;

const RUN: &str = r#"
name = "x"
run_directory = "x"
[model.architecture]
hidden_size = 8
intermediate_size = 8
num_hidden_layers = 1
num_attention_heads = 1
num_key_value_heads = 1
vocab_size = 8
max_position_embeddings = 8
rms_norm_eps = 1e-6
rope_theta = 1e4
[training]
sequence_length = 8
[optimizer]
learning_rate = 1e-3
[batch]
mode = "fixed"
initial_tokens = 8
[sources.a]
edition = "a"
[sources.b]
edition = "b"
[[stages]]
name = "one"
budget_tokens = 800
mixture = { a = 1 }
[[stages]]
name = "two"
budget_tokens = 800
mixture = { a = 1, b = 1 }
"#;

fn with(set: &[(&str, &str)]) -> RunConfig {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("x.toml");
    std::fs::write(&path, RUN).unwrap();
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let set: Vec<_> = set.iter().map(owned).collect();
    let loaded: Loaded = crate::load(&path, &set).unwrap();
    let mut config = loaded.config;
    for (name, source) in &mut config.sources {
        source.edition = Path::new("/data").join(name);
    }
    config
}

fn at(stage: usize, stage_tokens: u64) -> Standing {
    let tokens_seen = Tokens(stage as u64 * 800 + stage_tokens);
    Standing { stage, entered: true, stage_tokens: Tokens(stage_tokens), tokens_seen }
}

fn mixture(pairs: &[(&str, &str)]) -> MixtureFile {
    let mixture = pairs.iter().map(|(name, w)| ((*name).to_owned(), w.parse().unwrap())).collect();
    MixtureFile { mixture, mixture_end: None }
}

fn change(after: u64, pairs: &[(&str, &str)]) -> MixtureChange {
    let MixtureFile { mixture, mixture_end } = mixture(pairs);
    MixtureChange { after_tokens: Tokens(after), mixture, mixture_end }
}

fn refused(revision: &Revision) -> Vec<&str> {
    revision.refused().map(|change| change.key.as_str()).collect()
}

#[test]
fn nothing_changed_is_nothing_to_ask() {
    let old = with(&[]);
    let moved = with(&[("run_directory", "elsewhere")]);
    assert_eq!(revise(&old, &moved, &at(0, 80)).changes, []);
    // The same weights in other words.
    let same = with(&[("stages.0.mixture", "{ a = 0.50, b = 0 }")]);
    assert_eq!(revise(&old, &same, &at(0, 80)).changes, []);
}

#[test]
fn the_past_is_refused_and_named() {
    let old = with(&[]);
    for (key, value, standing) in [
        ("seed", "18", at(0, 80)),
        ("model.architecture.vocab_size", "16", at(0, 0)),
        ("training.sequence_length", "4", at(0, 80)),
        ("stages.0.budget_tokens", "72", at(0, 80)),
        ("stages.0.budget_tokens", "1600", at(1, 0)),
        ("stages.0.mixture.b", "1", at(1, 80)),
        ("stages.0.name", "\"uno\"", at(0, 80)),
        ("stages.0.batch", "16", at(0, 80)),
    ] {
        let revision = revise(&old, &with(&[(key, value)]), &standing);
        assert_eq!(refused(&revision), [key], "{value} at {standing:?}");
        assert_eq!(revision.changes.len(), 1);
    }
    let fewer =
        with(&[("stages", "[{ name = \"one\", budget_tokens = 800, mixture = { a = 1 } }]")]);
    assert!(!refused(&revise(&old, &fewer, &at(1, 80))).is_empty());
    assert!(refused(&revise(&old, &fewer, &at(0, 80))).is_empty());
}

#[test]
fn what_is_to_come_may_change() {
    let old = with(&[]);
    for (key, value, standing) in [
        ("optimizer.learning_rate", "2e-3", at(0, 80)),
        ("batch.initial_tokens", "16", at(0, 80)),
        ("stages.0.learning_rate", "2e-3", at(0, 80)),
        ("stages.0.budget_tokens", "1600", at(0, 80)),
        ("stages.0.mixture.b", "1", at(0, 0)),
        ("stages.1.mixture.b", "3", at(0, 80)),
        ("stages.1.batch", "16", at(0, 80)),
        ("checkpoint.keep_last", "7", at(1, 80)),
    ] {
        let new = with(&[(key, value)]);
        let revision = revise(&old, &new, &standing);
        assert_eq!(refused(&revision), [""; 0], "{key}");
        assert_eq!((revision.changes.len(), &revision.config), (1, &new), "{key}");
    }
}

#[test]
fn an_evaluation_is_no_part_of_what_a_run_computes() {
    let old = with(&[]);
    let new = with(&[("evaluation.every_tokens", "16"), ("evaluation.at_start", "false")]);
    for (from, to) in [(&old, &new), (&new, &old)] {
        let revision = revise(from, to, &at(1, 80));
        assert!(!revision.changes.is_empty());
        assert!(revision.changes.iter().all(|change| change.effect == Effect::Harmless));
    }
}

#[test]
fn a_stage_whose_weights_were_ramped_keeps_its_budget() {
    let ramp = ("stages.0.mixture_end", "{ b = 1 }");
    let old = with(&[ramp]);
    let longer = with(&[ramp, ("stages.0.budget_tokens", "1600")]);
    assert_eq!(refused(&revise(&old, &longer, &at(0, 80))), ["stages.0.budget_tokens"]);
    assert_eq!(refused(&revise(&old, &longer, &at(0, 0))), [""; 0]);
}

#[test]
fn an_edited_mixture_holds_from_the_next_sequence_on() {
    let old = with(&[]);
    let edited = with(&[("stages.0.mixture", "{ b = 1 }")]);
    let revision = revise(&old, &edited, &at(0, 80));
    assert_eq!(refused(&revision), [""; 0]);
    let stage = &revision.config.stages[0];
    assert_eq!(stage.mixture, old.stages[0].mixture);
    assert_eq!(stage.mixture_changes, [change(80, &[("b", "1")])]);
    let keys: Vec<&str> = revision.changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["stages.0.mixture.a", "stages.0.mixture.b"]);
    assert_eq!(
        revision.changes[1].to_string(),
        "stages.0.mixture.b: not set -> 1 (from the next sequence on, 80 tokens into the stage)"
    );

    // The same file again changes nothing, however far the run is.
    for drawn in [80, 160] {
        assert_eq!(revise(&revision.config, &edited, &at(0, drawn)).changes, []);
    }
    // The file as it was before goes back: without a step between as if nothing had been.
    let back = revise(&revision.config, &old, &at(0, 80));
    assert_eq!(back.config, old);
    let back = revise(&revision.config, &old, &at(0, 160));
    let expected = [change(80, &[("b", "1")]), change(160, &[("a", "1")])];
    assert_eq!(back.config.stages[0].mixture_changes, expected);
    assert!(!back.changes.is_empty() && back.refused().next().is_none());
}

#[test]
fn the_last_change_may_be_edited_and_earlier_ones_may_not() {
    let mut old = with(&[]);
    old.stages[0].mixture_changes = vec![change(80, &[("b", "1")]), change(160, &[("a", "1")])];
    let mut edited = old.clone();
    edited.stages[0].mixture_changes[1] = change(160, &[("a", "1"), ("b", "3")]);
    let revision = revise(&old, &edited, &at(0, 240));
    assert_eq!(refused(&revision), [""; 0]);
    let changes = &revision.config.stages[0].mixture_changes;
    assert_eq!(changes[..2], old.stages[0].mixture_changes);
    assert_eq!(changes[2..], [change(240, &[("a", "1"), ("b", "3")])]);
    // Before its place was reached, it is simply the future.
    assert_eq!(revise(&old, &edited, &at(0, 160)).config, edited);

    edited.stages[0].mixture_changes[0] = change(88, &[("b", "1")]);
    assert!(!refused(&revise(&old, &edited, &at(0, 240))).is_empty());
}

#[test]
fn a_mix_goes_back_and_forth() {
    let old = with(&[]);
    let (a, b) = (mixture(&[("a", "1")]), mixture(&[("b", "1")]));
    let there = remix(&old, &at(0, 80), MixFrom::NextStep, &b).unwrap();
    assert_eq!(there.stages[0].mixture_changes, [change(80, &[("b", "1")])]);
    assert_eq!(remix(&there, &at(0, 80), MixFrom::NextStep, &a).unwrap(), old);
    let back = remix(&there, &at(0, 160), MixFrom::NextStep, &a).unwrap();
    let segments = back.stages[0].segments(8).unwrap();
    let extents: Vec<u64> = segments.iter().map(|segment| segment.sequences).collect();
    assert_eq!(extents, [10, 10, 80]);
    // At the edge of a stage there is nothing to cut.
    let edge = Standing { stage: 1, tokens_seen: Tokens(800), ..Standing::default() };
    let next = remix(&old, &edge, MixFrom::NextStep, &b).unwrap();
    assert_eq!((&next.stages[1].mixture, next.stages[1].mixture_changes.len()), (&b.mixture, 0));
}

#[test]
fn a_mix_does_not_reach_back() {
    let old = with(&[]);
    let b = mixture(&[("b", "1")]);
    let later = remix(&old, &at(0, 80), MixFrom::Stage(1), &b).unwrap();
    assert_eq!(later.stages[1].mixture, b.mixture);
    assert_eq!(later.stages[0], old.stages[0]);
    let refusal = |standing: Standing, from| remix(&old, &standing, from, &b).unwrap_err();
    assert!(refusal(at(0, 80), MixFrom::Stage(0)).contains("80 of its 800 tokens are drawn"));
    assert!(refusal(at(1, 0), MixFrom::Stage(0)).contains("is done"));
    assert!(refusal(at(0, 80), MixFrom::Stage(2)).contains("0 to 1"));
    let done = Standing { stage: 2, tokens_seen: Tokens(1600), ..Standing::default() };
    assert!(refusal(done, MixFrom::NextStep).contains("all 2 stages are done"));
}
