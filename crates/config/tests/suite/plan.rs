//! The numbers of a plan.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Home, RUN};
use serde_json::json;
use terrace_config::{
    Architecture, Error, Loaded, MissingKind, PlanOptions, RunPlan, gather, load, render, resolve,
};

fn config(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name);
    load(&path, &[]).unwrap()
}

fn yi_9b() -> Loaded {
    config("yi-9b.toml")
}

fn plan(loaded: &Loaded) -> Result<RunPlan, Error> {
    resolve(loaded, &gather(&loaded.config)?, &PlanOptions::default())
}

/// An edition of which only the manifests are there.
fn edition(home: &Home, source: &str, windows: u64, change: serde_json::Value) {
    let mut manifest = json!({
        "format": "any other field is not read",
        "sequence_length": 10,
        "windows": windows,
        "tokens": windows * 10,
        "vocab_size": 32,
        "tokenizer": "aa",
        "fingerprint": "bb",
    });
    manifest.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    home.write(&format!("data/{source}/manifest.json"), &manifest.to_string());
    manifest["windows"] = json!(7);
    home.write(&format!("data/{source}/held_out/manifest.json"), &manifest.to_string());
}

#[test]
fn a_plan_says_what_makes_yi_9b_fit_one_card_and_what_it_costs() {
    let whole = plan(&yi_9b()).unwrap();
    let text = render(&whole);
    let card = "one card of 80 GB: precision bf16, moments 8-bit take 4.0 bytes a parameter";
    assert!(text.contains(card), "{text}");
    // 2 of 6 operations for each weight, but for those of the head.
    assert!(text.contains("32% more operations, 0.76 of the speed"), "{text}");

    let one_card = plan(&config("yi-9b-one-card.toml")).unwrap().memory.unwrap();
    let budget = one_card.budget_bytes.unwrap();
    assert!(budget <= 72 << 30, "a tenth of a card of 80 GB is left to what no plan counts");
    assert!(one_card.peak.auto.unwrap() <= budget && one_card.peak.none > budget);
    assert!(whole.memory.unwrap().peak.all > budget);
}

#[test]
fn yi_9b_plans_without_its_data_in_well_under_a_second() {
    let begin = Instant::now();
    let plan = plan(&yi_9b()).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["model"]["parameters"], 8_829_407_232u64);
    assert_eq!(json["stages"][0]["budget_tokens"], 400_000_000_000u64);
    assert_eq!(json["stages"][1]["budget_tokens"], 400_000_000_000u64);
    assert_eq!(json["stages"][1]["starts_at_tokens"], 400_000_000_000u64);
    assert_eq!(json["total_tokens"], 800_000_000_000u64);
    assert_eq!(json["checkpoint_bytes"], 12 * 8_829_407_232u64);

    let first = &plan.stages[0];
    assert_eq!(first.sequences, 97_656_250);
    assert_eq!(first.steps, None);
    let batches: Vec<u64> = first.rungs.iter().map(|rung| rung.batch_tokens >> 20).collect();
    assert_eq!(batches, [4, 8, 16, 32]);
    assert_eq!(first.rungs[0].batch_sequences, 1024);
    assert_eq!(first.steps_at_first_batch, 95_368);

    let missing: Vec<_> = plan.missing.iter().map(|m| (m.kind, m.name.as_str())).collect();
    assert_eq!(
        missing,
        [
            (MissingKind::Model, "model"),
            (MissingKind::Edition, "chinese_web"),
            (MissingKind::Edition, "code"),
            (MissingKind::Edition, "english_web"),
            (MissingKind::Edition, "math"),
        ]
    );
    assert!(
        first.mixture.iter().all(|share| share.epochs.is_none() && share.cap_exceeded.is_none())
    );
}

#[test]
fn the_threshold_stays_and_the_window_shrinks_as_the_batch_grows() {
    let plan = plan(&yi_9b()).unwrap();
    let rungs: Vec<_> =
        plan.stages[0].rungs.iter().map(|rung| rung.plateau.as_ref().unwrap()).collect();
    // 0.0002 nats per 4B tokens, in steps of 4,194,304 tokens.
    assert!((rungs[0].nats_per_step - 2.097_152e-7).abs() < 1e-13);
    assert!((rungs[0].noise_sd_nats - 0.015).abs() < 1e-12);
    for pair in rungs.windows(2) {
        assert_eq!(pair[0].nats_per_step, pair[1].nats_per_step);
        assert!(pair[1].window_steps < pair[0].window_steps);
    }
    assert!(rungs.iter().all(|rung| rung.cooldown_steps == rung.window_steps.div_ceil(4)));
}

#[test]
fn a_cooldown_is_derived_unless_it_is_set() {
    let home = Home::new();
    let cooldown = |set: &[(&str, &str)]| {
        let plan = plan(&home.load_with(RUN, set).unwrap()).unwrap();
        let plateau = plan.stages[0].rungs[0].plateau.clone().unwrap();
        assert!(render(&plan).contains("cooldown"));
        (plateau.window_steps, plateau.cooldown_steps)
    };
    let sharp = ("batch.plateau.nats_per_percent", "1e3");
    let (window, derived) = cooldown(&[sharp]);
    assert!(window < 240, "{window}");
    assert_eq!(derived, 60, "three time constants of 0.95");
    assert_eq!(cooldown(&[sharp, ("optimizer.beta2", "0.9")]).1, 30);
    assert_eq!(cooldown(&[sharp, ("batch.plateau.cooldown_steps", "7")]).1, 7);
}

#[test]
fn a_plan_survives_json() {
    let plan = plan(&yi_9b()).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<RunPlan>(&text).unwrap(), plan);
}

#[test]
fn shares_are_exact_and_budgets_whole() {
    let home = Home::new();
    edition(&home, "code", 1000, json!({}));
    edition(&home, "text", 50, json!({}));
    let plan = plan(&home.load(RUN).unwrap()).unwrap();
    let windows = |stage: usize| -> Vec<(&str, u64)> {
        plan.stages[stage].mixture.iter().map(|s| (s.source.as_str(), s.windows)).collect()
    };
    assert_eq!(windows(0), [("code", 25), ("text", 75)]);
    // Two thousand and five tokens are two hundred sequences; text goes from one half to nothing.
    assert_eq!(windows(1), [("code", 150), ("text", 50)]);
    assert_eq!(plan.stages[1].tokens, 2000);
    assert_eq!(plan.stages[1].weight_parts_total, 2);
    assert_eq!(plan.stages[1].mixture[1].weight_end_parts, Some(0));
    let text = &plan.stages[1].mixture[1];
    assert_eq!((text.epochs, text.epochs_cumulative), (Some(1.0), Some(2.5)));
    assert_eq!(plan.sources[1].validation_windows, Some(7));
    assert!(plan.warnings.iter().any(|w| w.contains("2005 tokens are not whole sequences")));
}

#[test]
fn an_exceeded_cap_says_what_would_do() {
    let home = Home::new();
    edition(&home, "code", 1000, json!({}));
    edition(&home, "text", 50, json!({}));
    let capped = |cap: &str| home.load_with(RUN, &[("sources.text.max_epochs", cap)]).unwrap();
    let error = plan(&capped("2")).unwrap_err();
    let [problem] = error.diagnostics() else { panic!("{error}") };
    assert_eq!(&problem.source_text[problem.span.clone()], "2_005");
    assert_eq!(
        problem.message,
        "stage \"two\" needs 50 windows of \"text\", but max_epochs = 2 allows 100 (50 windows 2 \
         times), of which earlier stages take 75"
    );
    assert_eq!(
        problem.help.as_deref(),
        Some(
            "the largest feasible budget of this stage is 1000 tokens (100 sequences); this run \
             would need sources.text.max_epochs = 3"
        )
    );
    // Both ways out work.
    assert_eq!(plan(&capped("3")).unwrap().stages[1].mixture[1].cap_exceeded, Some(false));
    let set = [("sources.text.max_epochs", "2"), ("stages.1.budget_tokens", "1000")];
    plan(&home.load_with(RUN, &set).unwrap()).unwrap();
    let set = [("sources.text.max_epochs", "2"), ("stages.1.budget_tokens", "1010")];
    plan(&home.load_with(RUN, &set).unwrap()).unwrap_err();
}

#[test]
fn contradictions_are_errors() {
    for (change, message) in [
        (json!({"sequence_length": 11}), "\"code\" has windows of 11 tokens"),
        (json!({"vocab_size": 33}), "was tokenised with 33 tokens, but the model knows 32"),
        (json!({"windows": 0}), "\"code\" has no windows"),
    ] {
        let home = Home::new();
        edition(&home, "code", 1000, change);
        let error = plan(&home.load(RUN).unwrap()).unwrap_err();
        let problem = &error.diagnostics()[0];
        assert!(problem.message.contains(message), "{error}");
        assert_eq!(&problem.source_text[problem.span.clone()], "\"data/code\"");
    }
    let home = Home::new();
    edition(&home, "code", 1000, json!({}));
    edition(&home, "text", 1000, json!({"tokenizer": "cc"}));
    let error = plan(&home.load(RUN).unwrap()).unwrap_err();
    assert!(error.to_string().contains("another tokenizer than \"code\""), "{error}");
}

#[test]
fn the_folder_s_shape_is_used_and_must_agree() {
    let home = Home::new();
    let shape: Architecture = home.load(RUN).unwrap().config.model.architecture.unwrap();
    home.write("model/config.json", &shape.to_hugging_face().to_string());
    let without = {
        let (before, rest) = RUN.split_once("[model.architecture]").unwrap();
        format!("{before}[training]{}", rest.split_once("[training]").unwrap().1)
    };
    let found = plan(&home.load(&without).unwrap()).unwrap();
    assert_eq!(found.model.as_ref().unwrap().parameters, shape.parameter_count());
    assert_eq!(plan(&home.load(RUN).unwrap()).unwrap().model, found.model);

    let loaded = home.load_with(RUN, &[("model.architecture.rope_theta", "5e6")]).unwrap();
    let error = plan(&loaded).unwrap_err();
    assert!(
        error.to_string().contains("`model.architecture.rope_theta`: found 5000000.0"),
        "{error}"
    );

    home.write("model/config.json", "{\"model_type\": \"gpt2\"}");
    let error = plan(&home.load(RUN).unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Fact { .. }), "{error}");
    home.write("data/code/manifest.json", "{}");
    home.write("model/config.json", &shape.to_hugging_face().to_string());
    let error = plan(&home.load(RUN).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not the manifest of an edition"), "{error}");
}

#[test]
fn what_is_unknown_is_null() {
    let (before, rest) = RUN.split_once("[model.architecture]").unwrap();
    let text = format!("{before}[training]{}", rest.split_once("[training]").unwrap().1);
    let plan = plan(&Home::new().load(&text).unwrap()).unwrap();
    assert!(plan.model.is_none() && plan.memory.is_none() && plan.checkpoint_bytes.is_none());
    let remedy = &plan.missing.iter().find(|m| m.name == "text").unwrap().remedy;
    assert!(remedy.starts_with("terrace prepare ") && remedy.contains("prepare/text.toml"));
}

#[test]
fn steps_are_known_where_nothing_is_decided() {
    let home = Home::new();
    let plan_with = |set: &[(&str, &str)]| plan(&home.load_with(RUN, set).unwrap()).unwrap();
    let fixed = plan_with(&[("batch.mode", "fixed"), ("stages.1.batch", "60")]);
    assert_eq!(fixed.stages[0].steps, Some(25));
    // Thirty-three full steps, and a last one of twenty tokens.
    assert_eq!(fixed.stages[1].steps, Some(34));
    assert_eq!(fixed.stages[1].rungs[0].accumulation_steps, 3);
    assert!(fixed.warnings.iter().any(|w| w == "batch.plateau has no effect in mode fixed"));

    let steps = plan_with(&[("batch.mode", "steps"), ("batch.schedule", "0:40 1500:80")]);
    assert_eq!(steps.stages[0].steps, Some(25));
    // From 1000 on: thirteen steps of 40 to 1520, then nineteen of 80 to the end at 3000.
    assert_eq!(steps.stages[1].steps, Some(13 + 19));
    assert_eq!(steps.stages[1].rungs.len(), 2);
    assert!(steps.stages[1].rungs[0].plateau.is_none());
}

#[test]
fn a_ramp_is_planned_step_by_step() {
    let home = Home::new();
    let set = [("batch.mode", "ramp"), ("batch.ramp_tokens", "900")];
    let plan = plan(&home.load_with(RUN, &set).unwrap()).unwrap();
    assert_eq!(plan.batch_mode, "ramp");
    // From four sequences to sixteen in six increments of a micro-batch, 150 tokens each.
    let batches: Vec<u64> = plan.stages[0].rungs.iter().map(|rung| rung.batch_sequences).collect();
    assert_eq!(batches, [4, 6, 8, 10, 12, 14, 16]);
    // 0, 40, 80, 120 | 160, 220, 280 | 340, 420 | 500 | 600, 720 | 840 | 980.
    assert_eq!(plan.stages[0].steps, Some(14));
    assert_eq!(plan.stages[1].first_batch_tokens, 160);
    assert_eq!(plan.stages[1].steps, Some(2000u64.div_ceil(160)));
    assert!(plan.stages[0].rungs.iter().all(|rung| rung.plateau.is_none()));
}

#[test]
fn modes_that_measure_leave_the_steps_open() {
    let home = Home::new();
    for (mode, with_test) in [("hybrid", true), ("gns-sqrt", false), ("loss-law", false)] {
        let set = [("batch.mode", mode), ("batch.plateau.safe_learning_rate", "1.51e-3")];
        let plan = plan(&home.load_with(RUN, &set).unwrap()).unwrap();
        assert_eq!((plan.batch_mode.as_str(), plan.stages[0].steps), (mode, None));
        let batches: Vec<u64> = plan.stages[0].rungs.iter().map(|rung| rung.batch_tokens).collect();
        // 40 times 1.51² are 91, nine sequences.
        assert_eq!(batches, [40, 80, 90]);
        assert!(plan.stages[0].rungs.iter().all(|rung| rung.plateau.is_some() == with_test));
    }
    let unused = [("batch.mode", "steps"), ("batch.schedule", "0:40"), ("batch.ramp_tokens", "9")];
    let plan = plan(&home.load_with(RUN, &unused).unwrap()).unwrap();
    assert!(plan.warnings.iter().any(|w| w == "batch.ramp_tokens has no effect in mode steps"));
}

#[test]
fn the_batch_section_is_the_policy_that_it_asks_for() {
    use terrace_policy::batch::{Advisor, BatchPolicy, LossLaw, SqrtRule};

    let home = Home::new();
    let policy = |mode: &str, key: &str, value: &str| {
        home.load_with(RUN, &[("batch.mode", mode), (key, value)]).unwrap().config.batch_policy()
    };
    let BatchPolicy::Following(following) = policy("gns-sqrt", "batch.growth_factor", "3") else {
        panic!("it follows")
    };
    // A step is worth the first batch unless something else is written.
    assert_eq!(following.advisor, Advisor::NoiseScale(SqrtRule { step_cost_tokens: 40.0 }));
    assert_eq!(following.limits.growth_factor, 3);
    assert_eq!(following.limits.maximum_sequences, Some(16));
    let law = policy("loss-law", "batch.growth_factor", "2").advisor();
    assert_eq!(law, Some(Advisor::LossLaw(LossLaw::MINICPM)));
    let BatchPolicy::Hybrid(hybrid) = policy("hybrid", "batch.step_cost_tokens", "7") else {
        panic!("it is a hybrid")
    };
    assert_eq!(hybrid.advisor, Advisor::NoiseScale(SqrtRule { step_cost_tokens: 7.0 }));
    assert_eq!(hybrid.plateau.maximum_sequences, Some(16));
    for mode in ["fixed", "plateau", "gns-sqrt", "loss-law", "hybrid"] {
        policy(mode, "batch.growth_factor", "2").validate().unwrap();
    }
    policy("ramp", "batch.ramp_tokens", "100").validate().unwrap();
}

#[test]
fn a_memory_budget_and_a_speed_add_their_numbers() {
    let home = Home::new();
    let loaded = home.load_with(RUN, &[("training.memory_budget", "1GiB")]).unwrap();
    let facts = gather(&loaded.config).unwrap();
    let options = PlanOptions { tokens_per_second: Some(100.0) };
    let plan = resolve(&loaded, &facts, &options).unwrap();
    let memory = plan.memory.as_ref().unwrap();
    assert_eq!(memory.activations.auto.as_ref().unwrap().kept_layers, 2);
    assert_eq!(memory.peak.auto, Some(memory.peak.none));
    let time = plan.time.as_ref().unwrap();
    assert_eq!(time.seconds_per_stage, [10.0, 20.0]);
    assert_eq!(time.seconds, 30.0);

    let loaded = home.load_with(RUN, &[("training.memory_budget", "1KiB")]).unwrap();
    let plan = resolve(&loaded, &facts, &options).unwrap();
    assert!(plan.warnings.iter().any(|w| w.contains("memory_budget is 1 KiB")), "{plan:#?}");
}

#[test]
fn people_read_numbers_units_and_remedies() {
    let loaded = yi_9b();
    let facts = gather(&loaded.config).unwrap();
    let options = PlanOptions { tokens_per_second: Some(20_000.0) };
    let text = render(&resolve(&loaded, &facts, &options).unwrap());
    for expected in [
        "8,829,407,232",
        "195,312,500",
        "4,194,304",
        "GiB",
        "window steps",
        "missing",
        "terrace prepare",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line == line.trim_end()));
}

#[test]
fn a_decaying_rate_is_in_the_plan() {
    let home = Home::new();
    let decayed = |text: &str| {
        let loaded = home.load_with(RUN, &[("stages.1.decay", text)]).unwrap();
        plan(&loaded).unwrap()
    };
    let planned = decayed("{ share = 0.25, shape = \"1-sqrt\", final_fraction = 0.1 }");
    assert_eq!(planned.stages[0].decay, None);
    let decay = planned.stages[1].decay.as_ref().unwrap();
    // The stage begins after 1000 tokens and has 2000 in whole sequences.
    assert_eq!((decay.starts_at_tokens, decay.tokens), (2500, 500));
    assert_eq!(decay.shape, "1-sqrt");
    assert!((decay.final_learning_rate - 1e-4).abs() < 1e-15);
    assert!(render(&planned).contains("falls from 2.5K on to 1e-4, 1-sqrt, over 500 tokens"));
    let throughout = |plan: &RunPlan| plan.warnings.iter().any(|w| w.contains("decays throughout"));
    assert!(!throughout(&planned));

    let annealed = decayed("{}");
    let decay = annealed.stages[1].decay.as_ref().unwrap();
    assert_eq!((decay.starts_at_tokens, decay.tokens), (1000, 2000));
    assert_eq!((decay.shape.as_str(), decay.final_learning_rate), ("linear", 0.0));
    assert!(throughout(&annealed), "{:?}", annealed.warnings);
}

#[test]
fn a_rewind_wants_states_to_go_back_to() {
    let home = Home::new();
    let warns = |set: &[(&str, &str)]| {
        let plan = plan(&home.load_with(RUN, set).unwrap()).unwrap();
        plan.warnings.iter().any(|w| w.contains("at the edges of stages only"))
    };
    let rewind = ("spikes.policy", "\"rewind\"");
    assert!(warns(&[rewind]));
    assert!(!warns(&[rewind, ("checkpoint.every_tokens", "100")]));
    assert!(!warns(&[("spikes.policy", "\"skip\"")]));
}
