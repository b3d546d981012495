//! The analysis against up-scaled models that are really built and run whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use terrace_base::{Fingerprint, Seed};
use terrace_config::Architecture;
use terrace_data::{Edition, EditionHeader, MicroBatch, Packing, write_documents};
use terrace_kernels::RopeTable;
use terrace_model::{CausalLm, SequenceContext, initialize};
use terrace_upscale::analysis::{Analysis, Calibration, Criterion, Error, analyze};

const LENGTH: usize = 12;
const LAYERS: usize = 4;

fn architecture() -> Architecture {
    let json = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": {LAYERS}, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 40, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "initializer_range": 0.3}}"#
    );
    Architecture::from_hugging_face(&json).unwrap()
}

/// An edition of documents of uneven lengths, the last window padded.
fn edition(folder: &Path, seed: u64) -> PathBuf {
    let stream = Seed(seed).stream("documents");
    let token = |i: u64| 1 + stream.at(i) as u32 % 39;
    let documents: Vec<Vec<u32>> =
        (0..12u64).map(|d| (0..5 + d % 4 * 4).map(|i| token(d * 100 + i)).collect()).collect();
    let header = EditionHeader {
        source: "text".to_owned(),
        sequence_length: LENGTH,
        packing: Packing::BestFit,
        eos_token_id: None,
        tokenizer: Fingerprint::of_bytes(b"tokenizer"),
        byte_lengths: Arc::from(vec![1; 40]),
    };
    write_documents(folder, header, &documents).unwrap();
    folder.to_owned()
}

fn run(model: &CausalLm, home: &Path, length: usize, criterion: Criterion) -> Analysis {
    let editions =
        [("a", 1), ("b", 2)].map(|(name, seed)| (name.to_owned(), edition(&home.join(name), seed)));
    let calibration = Calibration::open(&editions, 3, 2, 40).unwrap();
    let mut last = (0, 1);
    let progress = |done, total| last = (done, total);
    let found = analyze(model, &Device::flex(), &calibration, length, criterion, progress).unwrap();
    assert_eq!(last.0, last.1, "the progress ends at its end");
    found
}

/// The model with `[a, b)` repeated, as a model of its own.
fn repeated(model: &CausalLm, a: usize, b: usize) -> CausalLm {
    let order = (0..b).chain(a..model.layers.len());
    let layers = order.map(|layer| model.layers[layer].clone()).collect();
    CausalLm { layers, ..model.clone() }
}

/// Mean loss change and divergence over all windows for reporting, from whole logits.
fn whole(model: &CausalLm, other: &CausalLm, home: &Path) -> (f64, f64) {
    let device = Device::flex();
    let (mut delta, mut kl) = (0.0, 0.0);
    for name in ["a", "b"] {
        let edition = Edition::open(&home.join(name)).unwrap();
        let taken = 3.min(edition.windows() / 2);
        let (mut sums, mut count) = ((0.0, 0.0), 0);
        for i in 0..taken {
            let index = (2 * i + 1) * edition.windows() / (2 * taken);
            let batch = MicroBatch::new(&[(0, edition.window(index))], LENGTH);
            let (p, q) = (log_p(model, &batch, &device), log_p(other, &batch, &device));
            for (t, target) in batch.targets.iter().enumerate() {
                if *target < 0 || batch.positions[t] == 0 {
                    continue;
                }
                let row = |x: &[f32]| x[t * 40..(t + 1) * 40].to_vec();
                let (p, q) = (row(&p), row(&q));
                sums.0 += f64::from(p[*target as usize] - q[*target as usize]);
                sums.1 += p.iter().zip(&q).map(|(p, q)| f64::from(p.exp() * (p - q))).sum::<f64>();
                count += 1;
            }
        }
        delta += sums.0 / f64::from(count) / 2.0;
        kl += sums.1 / f64::from(count) / 2.0;
    }
    (delta, kl)
}

fn log_p(model: &CausalLm, batch: &MicroBatch, device: &Device) -> Vec<f32> {
    let a = &model.architecture;
    let table = RopeTable::new(LENGTH, a.head_dim as usize, a.rope_theta, device);
    let shape = [1, LENGTH];
    let context = SequenceContext::new(a, &table, &batch.positions, &batch.segments, shape, device);
    let ids = TensorData::new(batch.tokens.clone(), [LENGTH]);
    let logits = model.logits(Tensor::<1, Int>::from_data(ids, device), &context);
    log_softmax(logits, 1).into_data().try_to_vec().unwrap()
}

#[test]
fn every_candidate_is_the_model_that_it_stands_for() {
    let home = tempfile::tempdir().unwrap();
    let model = initialize(&architecture(), Seed(3), &Device::flex());
    let found = run(&model, home.path(), 2, Criterion::Kl);
    let starts: Vec<usize> = found.candidates.iter().map(|c| c.start).collect();
    assert_eq!(starts.len(), 3);
    for candidate in &found.candidates {
        let up = repeated(&model, candidate.start, candidate.end);
        let (delta, kl) = whole(&model, &up, home.path());
        assert!((candidate.delta_nats - delta).abs() < 1e-5, "{candidate:?} {delta}");
        assert!((candidate.kl_nats - kl).abs() < 1e-5 && kl > 1e-3, "{candidate:?} {kl}");
        let mean = candidate.delta_nats_per_source.values().sum::<f64>() / 2.0;
        assert!((mean - candidate.delta_nats).abs() < 1e-12);
    }
    assert!(found.candidates.is_sorted_by(|a, b| a.kl_nats <= b.kl_nats));
    let best = |f: fn(&terrace_upscale::analysis::Candidate) -> f64| {
        found.candidates.iter().min_by(|a, b| f(a).total_cmp(&f(b))).unwrap().start
    };
    assert_eq!(found.chosen.start, best(|c| c.selection.kl_nats));
    let cosine = run(&model, home.path(), 2, Criterion::Cosine);
    assert_eq!(cosine.chosen.start, best(|c| -c.selection.cosine_in_place));
    let loss = run(&model, home.path(), 2, Criterion::Loss);
    assert_eq!(loss.chosen.start, best(|c| c.selection.delta_nats));
}

#[test]
fn layers_that_do_nothing_can_be_repeated_for_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut model = initialize(&architecture(), Seed(4), &Device::flex());
    for layer in &mut model.layers[2..3] {
        layer.o_proj = layer.o_proj.zeros_like();
        layer.down_proj = layer.down_proj.zeros_like();
    }
    let found = run(&model, home.path(), 1, Criterion::Kl);
    assert_eq!((found.chosen.start, found.chosen.end), (2, 3));
    let best = &found.candidates[0];
    assert_eq!((best.start, best.delta_nats), (2, 0.0));
    assert!(best.kl_nats.abs() < 1e-7);
    assert!((best.cosine_base - 1.0).abs() < 1e-6 && (best.cosine_in_place - 1.0).abs() < 1e-6);
    assert!((found.layers[2].sources["a"].p5 - 1.0).abs() < 1e-6);
    let placed: Vec<(usize, bool)> =
        found.upscaled_layers.iter().map(|layer| (layer.source, layer.copy)).collect();
    assert_eq!(placed, [(0, false), (1, false), (2, false), (2, true), (3, false)]);
}

#[test]
fn bad_requests_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let path = edition(&home.path().join("a"), 1);
    let named = [("a".to_owned(), path)];
    assert!(matches!(Calibration::open(&[], 3, 2, 40), Err(Error::NoText)));
    let narrow = Calibration::open(&named, 3, 2, 10).unwrap_err().to_string();
    assert!(narrow.contains("own tokenizer"), "{narrow}");
    let model = initialize(&architecture(), Seed(3), &Device::flex());
    let calibration = Calibration::open(&named, 3, 2, 40).unwrap();
    for length in [0, LAYERS + 1] {
        let result =
            analyze(&model, &Device::flex(), &calibration, length, Criterion::Kl, |_, _| {});
        assert!(matches!(result, Err(Error::Length { .. })));
    }
}

#[test]
fn the_figure_shows_every_layer_and_candidate() {
    let home = tempfile::tempdir().unwrap();
    let model = initialize(&architecture(), Seed(3), &Device::flex());
    let found = run(&model, home.path(), 2, Criterion::Kl);
    let text = found.figure().svg().unwrap();
    // Dots of the base, of the up-scaled model, and of both curves over the candidates.
    let dots = LAYERS + (LAYERS + 2) + 2 * found.candidates.len();
    assert!(text.matches("<circle").count() >= dots, "{text}");
    assert!(text.contains("KL from the base") && text.contains("up-scaled, in place"));
    let bitmap = found.figure().png().unwrap();
    assert_eq!(&bitmap[..8], b"\x89PNG\r\n\x1a\n");
}
