//! Steps whose loss or gradient is not finite: they change nothing, and say where they come from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use serde_json::Value;
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_data::Edition;
use terrace_model::hf;
use terrace_train::{Error, Event};

use crate::world::{
    AT_ONCE, LENGTH, VOCABULARY, World, documents, edition, lines, newest_checkpoint, timeless,
};

/// A token that no document has until it is put there.
const POISON: usize = VOCABULARY - 1;
/// The windows of the source `code` that get it.
const POISONED: [usize; 2] = [3, 8];

/// A world in which the embedding of one token is infinite, and two windows hold that token.
pub(crate) fn poisoned() -> World {
    let world =
        World::based_on(|model| model.embed_tokens = with_row(&model.embed_tokens, f32::INFINITY));
    let mut documents = documents("code", 12, 1);
    for window in POISONED {
        *token(&mut documents, window * LENGTH + LENGTH / 2) = POISON as u32;
    }
    // An edition is never overwritten.
    fs::remove_dir_all(world.path("code")).unwrap();
    edition(&world.path("code"), "code", &documents);
    world
}

/// Puts one value into the row of [`POISON`].
fn with_row(matrix: &Tensor<2>, value: f32) -> Tensor<2> {
    let width = matrix.dims()[1];
    let row = Tensor::full([1, width], value, &matrix.device());
    matrix.clone().slice_assign([POISON..POISON + 1, 0..width], row)
}

fn token(documents: &mut [Vec<u32>], place: usize) -> &mut u32 {
    documents.iter_mut().flatten().nth(place).unwrap()
}

fn bad_steps(directory: &Path) -> Vec<Value> {
    let journal = lines(directory, "journal.jsonl").into_iter();
    journal.filter(|line| line["event"] == "bad_step").map(|line| line["details"].clone()).collect()
}

/// The files with weights and moments.
pub(crate) fn tensors(checkpoint: &Path) -> Vec<Vec<u8>> {
    let segments = (0..4).map(|index| format!("segment-{index:04}.safetensors"));
    segments.map(|name| fs::read(checkpoint.join(name)).unwrap()).collect()
}

pub(crate) fn state(checkpoint: &Path) -> Value {
    serde_json::from_slice(&fs::read(checkpoint.join("state.json")).unwrap()).unwrap()
}

#[test]
fn a_poisoned_window_is_named_and_its_step_changes_nothing() {
    // What is told between two checkpoints is then what happened between their states.
    let world = poisoned().set(&[AT_ONCE]);
    let straight = world.path("straight");
    let mut saved: Vec<(PathBuf, bool)> = Vec::new();
    let mut was_bad = false;
    let on_event = |event: &Event<'_>| match event {
        Event::BadStep(_) => was_bad = true,
        Event::Step(_) => was_bad = false,
        Event::Saved { path, .. } => saved.push(((*path).to_owned(), was_bad)),
        _ => {}
    };
    let (report, _) = world.attempt(&straight, on_event).unwrap();
    assert!(report.complete);

    let fingerprint = Edition::open(&world.path("code")).unwrap().manifest().fingerprint;
    let bad = bad_steps(&straight);
    let mut named = BTreeSet::new();
    for window in bad.iter().flat_map(|step| step["windows"].as_array().unwrap()) {
        assert_eq!(window["source"], "code", "{window}");
        assert_eq!(window["edition"], fingerprint.to_string(), "{window}");
        named.insert(window["window"].as_u64().unwrap() as usize);
    }
    assert_eq!(named, BTreeSet::from(POISONED), "{bad:?}");
    assert!(bad.iter().all(|step| step["reason"] == "the loss is not finite"), "{bad:?}");

    let records = timeless(&straight);
    let steps: u64 = report.stages.iter().map(|stage| stage.steps).sum();
    assert_eq!(records.len() + bad.len(), steps as usize);
    assert!(records.iter().all(|record| record.nats.is_finite()));
    let mut refused = 0;
    for pair in saved.windows(2) {
        let ([before, after], was_bad) = ([&pair[0].0, &pair[1].0], pair[1].1);
        let (old, new) = (state(before), state(after));
        if was_bad && new["progress"]["steps"] != old["progress"]["steps"] {
            refused += 1;
            assert_eq!(tensors(before), tensors(after), "{}", after.display());
            assert_eq!(new["progress"]["updates"], old["progress"]["updates"]);
            assert_ne!(new["cursor"], old["cursor"]);
        }
    }
    assert_eq!(refused, bad.len());
}

#[test]
fn killed_around_bad_steps_is_never_killed() {
    let world = poisoned();
    let straight = world.path("straight");
    let (report, deaths) = world.train_and_die(&straight);
    let bad = bad_steps(&straight);
    assert!(!bad.is_empty());
    // The deaths right before a bad step and right after it.
    let bad_in_a_row = |death: &Path| {
        state(&newest_checkpoint(death))["progress"]["consecutive_bad_steps"].as_u64()
    };
    let around = deaths.windows(2).filter(|pair| bad_in_a_row(&pair[1]) > Some(0)).flatten();
    let around: BTreeSet<&PathBuf> = around.collect();
    assert!(around.len() > bad.len());
    for death in around {
        let again = world.train(death, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), timeless(&straight), "{}", death.display());
        assert_eq!(bad_steps(death), bad, "{}", death.display());
    }
}

#[test]
fn bad_steps_in_a_row_stop_the_run_with_a_checkpoint_that_resumes() {
    // A projection whose logits are finite and whose gradient's square is not.
    let world = World::based_on(|model| {
        model.lm_head = model.lm_head.as_ref().map(|head| with_row(head, 1e21));
    })
    .set(&[("training.max_consecutive_bad_steps", "3"), ("checkpoint.every_steps", "2")]);
    let run = world.path("run");
    let stopped = |attempt: Result<_, Box<Error>>| match *attempt.map(drop).unwrap_err() {
        Error::BadSteps { count, tokens_seen, checkpoint, .. } => (count, tokens_seen, checkpoint),
        other => panic!("{other}"),
    };
    let (count, tokens_seen, checkpoint) = stopped(world.attempt(&run, |_| {}));
    // Three steps of three sequences each.
    assert_eq!((count, tokens_seen), (3, 3 * 48));
    let bad = bad_steps(&run);
    assert_eq!(bad.len(), 3);
    for step in &bad {
        assert_eq!(step["reason"], "the gradient is not finite");
        assert_eq!(step["windows"].as_array().unwrap().len(), 3, "{step}");
    }
    assert!(lines(&run, "metrics.jsonl").is_empty());

    let held = Checkpoint::open(&checkpoint).unwrap();
    held.verify().unwrap();
    let base = hf::load(&world.path("base"), &Device::flex()).unwrap();
    let weights = terrace_train::load_weights(
        &world.loaded(&run).config,
        &RunLayout::new(&run),
        &held,
        &Device::flex(),
    )
    .unwrap();
    for (now, before) in [
        (weights.embed_tokens, base.embed_tokens),
        (weights.lm_head.unwrap(), base.lm_head.unwrap()),
    ] {
        assert_eq!(now.into_data(), before.into_data());
    }
    // It goes on behind the windows that were refused, and stops at the next bad step.
    let (count, tokens_seen, _) = stopped(world.attempt(&run, |_| {}));
    assert_eq!((count, tokens_seen), (4, 4 * 48));
}
