//! Runs that begin with a model that was made deeper.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use terrace_base::Seed;
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_config::Architecture;
use terrace_model::hf::{self, SaveOptions};
use terrace_model::{CausalLm, Segment, initialize};
use terrace_train::{TrainReport, read_evaluations};

use crate::world::{World, lines, newest_checkpoint, timeless};

/// The layers of the base that the deeper model's are, for `0..2` of three.
const SOURCES: [usize; 5] = [0, 1, 0, 1, 2];

/// A world whose base has three layers, of which the first two are repeated.
fn world(train: &str) -> World {
    let world = World::new();
    let path = format!("{:?}", world.path("base").display());
    let world = world.set(&[
        ("model.path", &path),
        ("model.architecture.num_hidden_layers", "3"),
        ("model.upscale.layers", "\"0..2\""),
        ("model.upscale.train", &format!("{train:?}")),
        ("optimizer.weight_decay", "0.1"),
    ]);
    let loaded = world.loaded(&world.path("none"));
    let architecture: &Architecture = loaded.config.model.architecture.as_ref().unwrap();
    let base = initialize(architecture, Seed(9), &Device::flex());
    save(&base, &world.path("base"));
    world
}

fn save(model: &CausalLm, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    hf::save(model, folder, SaveOptions::default()).unwrap();
    // A plan wants it there; a run on prepared tokens does not read it.
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
}

fn base(world: &World) -> CausalLm {
    hf::load(&world.path("base"), &Device::flex()).unwrap()
}

/// Puts the deeper model where a run in `directory` looks for it.
fn upscale(world: &World, directory: &Path) -> CausalLm {
    let base = base(world);
    let layers = SOURCES.iter().map(|source| base.layers[*source].clone()).collect();
    let architecture = Architecture { num_hidden_layers: 5, ..base.architecture.clone() };
    let deep = CausalLm { layers, architecture, ..base };
    save(&deep, &RunLayout::new(directory).upscaled());
    deep
}

fn weights(world: &World, directory: &Path, checkpoint: &Path) -> CausalLm {
    let layout = RunLayout::new(directory);
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    let config = world.loaded(directory).config;
    terrace_train::load_weights(&config, &layout, &checkpoint, &Device::flex()).unwrap()
}

fn segment(model: &CausalLm, segment: Segment) -> Vec<Vec<f32>> {
    let parameters = model.segment_parameters(segment).into_iter();
    parameters.map(|tensor| tensor.into_data().try_to_vec().unwrap()).collect()
}

#[test]
fn every_copy_moves_and_twins_come_apart() {
    let world = world("all");
    let run = world.path("run");
    let before = upscale(&world, &run);
    let report = world.train_until(&run, 2);
    let after = weights(&world, &run, &newest_checkpoint(&run));
    for layer in 0..5 {
        let (old, new) =
            (segment(&before, Segment::Layer(layer)), segment(&after, Segment::Layer(layer)));
        for (old, new) in old.iter().zip(&new) {
            assert_ne!(old, new, "layer {layer}");
        }
    }
    for (original, copy) in [(0, 2), (1, 3)] {
        assert_eq!(
            segment(&before, Segment::Layer(original)),
            segment(&before, Segment::Layer(copy))
        );
        let pairs = segment(&after, Segment::Layer(original)).into_iter();
        for (a, b) in pairs.zip(segment(&after, Segment::Layer(copy))) {
            assert_ne!(a, b, "{original} and {copy}");
        }
    }
    let upscaled = report.upscale.unwrap();
    assert_eq!((upscaled.source_layers, upscaled.layers), (3, 5));
    let pairs: Vec<_> = upscaled.twins.iter().map(|t| (t.original, t.copy)).collect();
    assert_eq!(pairs, [(0, 2), (1, 3)]);
    for twin in &upscaled.twins {
        assert!(twin.cosine < 1.0 - 1e-6 && twin.cosine > 0.5, "{twin:?}");
    }
}

#[test]
fn only_copies_are_trained_where_that_is_asked_for() {
    let world = world("new-only");
    let run = world.path("run");
    let before = upscale(&world, &run);
    let report = world.train(&run, |_| {});
    let after = weights(&world, &run, &newest_checkpoint(&run));
    for part in before.segments() {
        let same = segment(&before, part) == segment(&after, part);
        let copy = matches!(part, Segment::Layer(2 | 3));
        assert_eq!(same, !copy, "{part:?}");
    }
    assert!(report.upscale.unwrap().twins.iter().all(|twin| twin.cosine < 1.0 - 1e-6));
    // A step of some layers has fewer operations than are counted for the model.
    assert!(lines(&run, "metrics.jsonl").iter().all(|step| step["mfu"].is_null()));
}

#[test]
fn the_base_is_measured_beside_the_deeper_model() {
    let world = world("all");
    let run = world.path("run");
    let _ = upscale(&world, &run);
    let report = world.train(&run, |_| {});
    // The same base trained as it is: what it measures before is what the base measures here.
    let alone = World::new().set(&[
        ("model.path", &format!("{:?}", world.path("base").display())),
        ("model.architecture.num_hidden_layers", "3"),
    ]);
    let plain: TrainReport = alone.train_until(&alone.path("run"), 1);
    let upscaled = report.upscale.unwrap();
    assert_eq!(upscaled.bits_per_byte_base, plain.bits_per_byte_before);
    assert_ne!(upscaled.bits_per_byte_base, report.bits_per_byte_before);
    assert!(plain.upscale.is_none());

    let held_out: Vec<_> = lines(&run, "journal.jsonl")
        .into_iter()
        .filter(|line| line["event"] == "held_out")
        .map(|line| line["details"].clone())
        .collect();
    assert_eq!(held_out[0]["model"], "base");
    let cosines: Vec<f64> =
        held_out[1..].iter().map(|d| d["twins"][0]["cosine"].as_f64().unwrap()).collect();
    assert!((cosines[0] - 1.0).abs() < 1e-6, "{cosines:?}");
    assert!(cosines.last().unwrap() < &cosines[0], "{cosines:?}");
}

#[test]
fn the_base_is_evaluated_beside_the_deeper_model() {
    let world = world("all").set(&[("evaluation.at_start", "true")]);
    let run = world.path("run");
    let _ = upscale(&world, &run);
    let report = world.evaluate(&run);
    let labels: Vec<&str> = report.evaluations.iter().map(|of| of.label.as_str()).collect();
    assert_eq!(labels, ["base", "start", "after one", "after two"]);
    let measured = [
        &report.upscale.as_ref().unwrap().bits_per_byte_base,
        &report.bits_per_byte_before,
        &report.stages[0].bits_per_byte,
        &report.stages[1].bits_per_byte,
    ];
    for (evaluation, measured) in report.evaluations.iter().zip(measured) {
        for (source, bits) in measured {
            assert!((evaluation.bits_per_byte[source] - bits).abs() < 1e-12);
        }
    }
    let records = read_evaluations(&RunLayout::new(&run)).unwrap();
    assert_ne!(records[0].model, records[1].model);
}

#[test]
fn a_staged_run_that_dies_goes_on_bit_for_bit() {
    let world = world("staged");
    let straight = world.path("straight");
    let before = upscale(&world, &straight);
    let (report, deaths) = world.train_and_die(&straight);
    let records = timeless(&straight);
    let mut edge_seen = false;
    for death in &deaths {
        let newest = newest_checkpoint(death);
        let steps = lines(death, "metrics.jsonl");
        if steps.last().is_some_and(|line| line["stage"] == "one") {
            // In the first stage only the copies move, and with them nothing decays.
            let now = weights(&world, death, &newest);
            assert_eq!(segment(&now, Segment::Embedding), segment(&before, Segment::Embedding));
            assert_eq!(segment(&now, Segment::Layer(4)), segment(&before, Segment::Layer(4)));
            edge_seen = true;
        }
        let again = world.train(death, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), records, "{}", death.display());
        assert_eq!(again.upscale, report.upscale);
    }
    assert!(edge_seen);
    let after = weights(&world, &straight, &newest_checkpoint(&straight));
    assert_ne!(segment(&after, Segment::Embedding), segment(&before, Segment::Embedding));
}
