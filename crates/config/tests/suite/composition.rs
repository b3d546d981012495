//! `extends`, `--set`, where values came from, and writing a run down again.

use crate::common::{Home, RUN};
use proptest::prelude::*;
use terrace_base::{Seed, Tokens};
use terrace_config::{
    BatchMode, Bytes, Decimal, DeviceChoice, Error, Provenance, Recompute, RunConfig, Source,
    StageBatch, load, render_explanation,
};

#[test]
fn tables_merge_and_arrays_replace() {
    let home = Home::new();
    home.write("shared/base.toml", RUN);
    let path = home.write(
        "run.toml",
        r#"
extends = "shared/base.toml"
name = "child"
[training]
micro_batch_sequences = 4
[sources.math]
edition = "data/math"
[[stages]]
name = "only"
budget_tokens = 100
mixture = { math = 1 }
"#,
    );
    let loaded = load(&path, &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.name, "child");
    assert_eq!(config.training.sequence_length, 10);
    assert_eq!(config.training.micro_batch_sequences, 4);
    assert_eq!(config.stages.len(), 1);
    // Each path is relative to the file that wrote it.
    assert_eq!(config.sources["code"].edition, home.path().join("shared/data/code"));
    assert_eq!(config.sources["math"].edition, home.path().join("data/math"));
    assert_eq!(config.run_directory, home.path().join("shared/runs/small"));
    assert_eq!(loaded.files().count(), 2);
}

#[test]
fn the_later_base_wins() {
    let home = Home::new();
    home.write("base.toml", RUN);
    home.write("fast.toml", "[training]\nrecompute = \"none\"\nmicro_batch_sequences = 4\n");
    home.write("slow.toml", "[training]\nrecompute = \"all\"\n");
    let path = home.write("run.toml", "extends = [\"base.toml\", \"fast.toml\", \"slow.toml\"]\n");
    let training = load(&path, &[]).unwrap().config.training;
    assert_eq!(training.recompute, Recompute::All);
    assert_eq!(training.micro_batch_sequences, 4);
}

#[test]
fn circles_and_absent_bases_are_errors_at_their_place() {
    let home = Home::new();
    let path = home.write("a.toml", "extends = \"b.toml\"\n");
    home.write("b.toml", "extends = \"a.toml\"\n");
    let error = load(&path, &[]).unwrap_err();
    assert!(error.to_string().contains("extends itself"), "{error}");
    assert!(error.diagnostics()[0].file.ends_with("b.toml"));

    let path = home.write("a.toml", "extends = \"absent.toml\"\n");
    let error = load(&path, &[]).unwrap_err();
    let problem = &error.diagnostics()[0];
    assert_eq!(&problem.source_text[problem.span.clone()], "\"absent.toml\"");

    let path = home.write("a.toml", "extends = 3\n");
    assert!(load(&path, &[]).unwrap_err().to_string().contains("expected a path"));
}

#[test]
fn an_error_in_a_base_is_shown_in_the_base() {
    let home = Home::new();
    home.write("base.toml", &RUN.replace("sequence_length = 10", "sequence_length = 0"));
    let path = home.write("run.toml", "extends = \"base.toml\"\n");
    let error = load(&path, &[]).unwrap_err();
    assert!(error.diagnostics()[0].file.ends_with("base.toml"), "{error}");
}

#[test]
fn overrides_reach_every_value() {
    let home = Home::new();
    let config = home
        .load_with(
            RUN,
            &[
                ("stages.0.budget_tokens", "4Ki"),
                ("stages.1.mixture", "{ code = 2, text = 1 }"),
                ("device", "cuda:1"),
                ("optimizer.learning_rate", "2"),
                ("checkpoint.keep_last", "7"),
                ("sources.\"text\".max_epochs", "3"),
                ("name", "x=y"),
            ],
        )
        .unwrap()
        .config;
    assert_eq!(config.stages[0].budget_tokens, Tokens(4096));
    assert_eq!(config.stages[1].mixture["code"], Decimal::new(2, 0));
    assert_eq!(config.device, DeviceChoice::Cuda(1));
    assert_eq!(config.optimizer.learning_rate, 2.0);
    assert_eq!(config.checkpoint.keep_last, 7);
    assert_eq!(config.sources["text"].max_epochs, Some(3));
    assert_eq!(config.name, "x=y");
}

#[test]
fn bad_overrides_are_shown_as_written() {
    for (path, value, marked, message) in [
        ("training.colour", "1", "training.colour", "unknown key `training.colour`"),
        ("stages.2.name", "x", "stages.2.name", "`2` is not a place in an array of 2"),
        ("stages.one.name", "x", "stages.one.name", "`one` is not a place in an array of 2"),
        ("name.x", "1", "name.x", "`x` is inside a value that is no table"),
        ("a b", "1", "a b", "is not a path of keys"),
        ("training.sequence_length", "long", "long", "found the string \"long\""),
        ("training.sequence_length", "0", "0", "found 0, expected 1 to"),
    ] {
        let error = Home::new().load_with(RUN, &[(path, value)]).unwrap_err();
        let problem = &error.diagnostics()[0];
        assert_eq!(problem.file.to_str(), Some("--set"));
        assert_eq!(&problem.source_text[problem.span.clone()], marked, "{error}");
        assert!(problem.message.contains(message), "{error}");
    }
}

#[test]
fn every_value_says_where_it_came_from() {
    let home = Home::new();
    let loaded = home.load_with(RUN, &[("training.recompute", "all")]).unwrap();
    let explanations = loaded.explain();
    let of = |key: &str| explanations.iter().find(|e| e.key == key).unwrap();
    assert_eq!(of("training.recompute").from, Provenance::Set);
    assert_eq!(of("training.precision").from, Provenance::Default);
    let line = RUN.lines().position(|line| line == "sequence_length = 10").unwrap() + 1;
    let path = home.path().join("run.toml");
    assert_eq!(of("training.sequence_length").from, Provenance::File { path, line });
    assert_eq!(of("stages.0.budget_tokens").value, 1000);
    assert_eq!(of("stages.0.budget_tokens").written.as_deref(), Some("1K"));
    assert!(of("checkpoint.every_steps").value.is_null());

    let text = render_explanation(&explanations);
    assert_eq!(text.lines().count(), explanations.len());
    assert!(text.contains("--set"), "{text}");
}

#[test]
fn a_run_written_beside_its_data_can_be_moved() {
    let home = Home::new();
    let config = home.load(RUN).unwrap().config;
    let folder = home.path().join("runs/small");
    let text = config.to_toml_in(&folder).unwrap();
    assert!(!text.contains(home.path().to_str().unwrap()), "{text}");
    let path = home.write("runs/small/config.toml", &text);
    assert_eq!(load(&path, &[]).unwrap().config, config);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt;

    let mut config = Home::new().load(RUN).unwrap().config;
    config.run_directory = std::ffi::OsString::from_vec(vec![b'/', 0xff]).into();
    assert!(matches!(config.to_toml(), Err(Error::Unwritable { .. })));
}

prop_compose! {
    fn runs()(
        seed in any::<u64>(),
        sequence_length in 1usize..100,
        micro in 1usize..5,
        rungs in 1u64..4,
        learning_rate in 1e-12f64..1.0,
        noise in 1e-9f64..10.0,
        mode in prop_oneof![
            Just(BatchMode::Fixed), Just(BatchMode::Steps), Just(BatchMode::Plateau),
            Just(BatchMode::Ramp), Just(BatchMode::LossLaw)
        ],
        device in prop_oneof![Just(DeviceChoice::Cpu), (0usize..9).prop_map(DeviceChoice::Cuda)],
        budget in proptest::option::of(0u64..1 << 50),
        weights in proptest::collection::vec((1u64..1000, 0u8..4), 2),
        carry in any::<bool>(),
        cap in proptest::option::of(1u32..9),
        name in "[^\u{0}-\u{1f}\u{7f}]*[a-z]",
    ) -> RunConfig {
        let mut config = Home::new().load(RUN).unwrap().config;
        let batch = Tokens((sequence_length * micro) as u64);
        config.name = name.clone();
        config.seed = Seed(seed);
        config.device = device;
        config.training.sequence_length = sequence_length;
        config.training.micro_batch_sequences = micro;
        config.training.memory_budget = budget.map(Bytes);
        config.optimizer.learning_rate = learning_rate;
        config.batch.mode = mode;
        config.batch.initial_tokens = Some(batch);
        config.batch.maximum_tokens = Some(Tokens(batch.0 << rungs));
        config.batch.schedule = Some(format!("0:{0} 100:{1}", batch.0, batch.0 * 2).parse().unwrap());
        config.batch.plateau.assumed_noise_sd = noise;
        config.batch.ramp_tokens = Some(Tokens(1000));
        config.sources.insert(name.clone(), Source { max_epochs: cap, ..config.sources["text"].clone() });
        let mixture = [name, "code".to_owned()]
            .into_iter()
            .zip(weights.iter().map(|(digits, scale)| Decimal::new(*digits, *scale)));
        config.stages[0].mixture = mixture.collect();
        if !carry && !matches!(mode, BatchMode::Steps | BatchMode::Ramp) {
            config.stages[0].batch = StageBatch::Tokens(batch);
        }
        config
    }
}

proptest! {
    #[test]
    fn what_is_written_loads_as_the_same(config in runs()) {
        let home = Home::new();
        let text = config.to_toml().unwrap();
        match home.load(&text) {
            Ok(loaded) => prop_assert_eq!(loaded.config, config),
            Err(error) => prop_assert!(false, "{}\n{}", error, text),
        }
    }

    #[test]
    fn no_text_panics(text in ".*", path in ".*", value in ".*") {
        let home = Home::new();
        let _ = home.load(&text);
        let _ = home.load_with(RUN, &[(&path, &value)]);
    }

    // Cutting a valid file anywhere gives a valid file or an error with a place inside the text.
    #[test]
    fn places_are_inside_the_text(cut in 0..RUN.len()) {
        if let Err(error) = Home::new().load(&RUN[..cut]) {
            for problem in error.diagnostics() {
                prop_assert!(problem.source_text.get(problem.span.clone()).is_some(), "{}", problem);
            }
        }
    }
}
