//! Up-scaled folders against the base they were made from.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use terrace_base::{Dtype, Fingerprint, Seed};
use terrace_config::Architecture;
use terrace_kernels::RopeTable;
use terrace_model::hf::{SaveOptions, load, save};
use terrace_model::{CausalLm, Segment, SequenceContext, initialize};
use terrace_policy::layer_map::Initialization;
use terrace_upscale::write::{Error, LINEAGE, Lineage, Overrides, Request, Upscaling};

const TOKENS: usize = 12;

fn architecture(layers: usize, tied: bool) -> Architecture {
    let json = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": {layers}, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 40, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "initializer_range": 0.3,
        "tie_word_embeddings": {tied}}}"#
    );
    Architecture::from_hugging_face(&json).unwrap()
}

/// A random model in a folder, with what usually lies beside the weights.
fn base(folder: &Path, tied: bool, options: SaveOptions) -> CausalLm {
    let model = initialize(&architecture(4, tied), Seed(5), &Device::flex());
    fs::create_dir_all(folder).unwrap();
    save(&model, folder, options).unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    fs::write(folder.join("generation_config.json"), r#"{"eos_token_id": 2}"#).unwrap();
    let config = folder.join("config.json");
    let text = fs::read_to_string(&config).unwrap().replacen('{', "{\"eos_token_id\": 2,", 1);
    fs::write(config, text).unwrap();
    model
}

fn request(home: &Path, selection: &str) -> Request {
    Request {
        source: home.join("base"),
        output: home.join("deep"),
        selection: selection.parse().unwrap(),
        initialization: Initialization::Copy,
        overrides: Overrides::default(),
        maximum_shard_bytes: 1 << 30,
    }
}

fn write(request: Request) -> Lineage {
    let planned = Upscaling::plan(request).unwrap();
    let bytes = planned.bytes();
    let mut last = 0;
    let lineage = planned.write(|done| last = done).unwrap();
    assert_eq!(last, bytes, "the progress ends at its end");
    lineage
}

fn refusal(request: Request) -> Error {
    Upscaling::plan(request).map(|_| ()).unwrap_err()
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn segment(model: &CausalLm, segment: Segment) -> Vec<Vec<f32>> {
    model.segment_parameters(segment).into_iter().map(values).collect()
}

fn logits(model: &CausalLm) -> Vec<u32> {
    let device = Device::flex();
    let a = &model.architecture;
    let rope = RopeTable::new(TOKENS, a.head_dim as usize, a.rope_theta, &device);
    let positions: Vec<i32> = (0..TOKENS as i32).collect();
    let shape = [1, TOKENS];
    let context = SequenceContext::new(a, &rope, &positions, &[0; TOKENS], shape, &device);
    let ids: Vec<i32> = (0..TOKENS as i32).map(|i| i * 7 % 40).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [TOKENS]), &device);
    values(model.logits(ids, &context)).into_iter().map(f32::to_bits).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(read) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        read.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_layer_is_its_source_bit_for_bit() {
    for (tied, dtype, shard) in
        [(false, Dtype::F32, 1 << 30), (true, Dtype::Bf16, 4_000), (false, Dtype::F16, 1)]
    {
        let home = tempfile::tempdir().unwrap();
        let options = SaveOptions { dtype, maximum_shard_bytes: 5_000 };
        base(&home.path().join("base"), tied, options);
        let request = Request { maximum_shard_bytes: shard, ..request(home.path(), "1..3") };
        let lineage = write(request);

        let device = Device::flex();
        let base = load(&home.path().join("base"), &device).unwrap();
        let deep = load(&home.path().join("deep"), &device).unwrap();
        assert_eq!(deep.architecture, architecture(6, tied));
        assert_eq!(lineage.parameters, deep.architecture.parameter_count());
        for (layer, source) in [0, 1, 2, 1, 2, 3].into_iter().enumerate() {
            assert_eq!(
                segment(&deep, Segment::Layer(layer)),
                segment(&base, Segment::Layer(source)),
                "layer {layer}"
            );
        }
        for whole in [Segment::Embedding, Segment::Head] {
            assert_eq!(segment(&deep, whole), segment(&base, whole));
        }
        let sharded = home.path().join("deep/model.safetensors.index.json").exists();
        assert_eq!(sharded, shard < 1 << 30);
    }
}

#[test]
fn zeroed_copies_leave_the_logits_bit_for_bit() {
    for selection in ["1..3", "interleave 2", "stack 2"] {
        let home = tempfile::tempdir().unwrap();
        let model = base(&home.path().join("base"), false, SaveOptions::default());
        let initialization = Initialization::ZeroOut;
        write(Request { initialization, ..request(home.path(), selection) });
        let deep = load(&home.path().join("deep"), &Device::flex()).unwrap();
        assert_eq!(logits(&deep), logits(&model), "{selection}");
    }
    // Without it they are others, so the comparison can fail.
    let home = tempfile::tempdir().unwrap();
    let model = base(&home.path().join("base"), false, SaveOptions::default());
    write(request(home.path(), "1..3"));
    let deep = load(&home.path().join("deep"), &Device::flex()).unwrap();
    assert_ne!(logits(&deep), logits(&model));
}

#[test]
fn scaled_copies_differ_in_the_two_projections_only() {
    let home = tempfile::tempdir().unwrap();
    let model = base(&home.path().join("base"), false, SaveOptions::default());
    let initialization = Initialization::Scale(0.5);
    write(Request { initialization, ..request(home.path(), "1..2") });
    let deep = load(&home.path().join("deep"), &Device::flex()).unwrap();
    let (source, copy) = (segment(&model, Segment::Layer(1)), segment(&deep, Segment::Layer(2)));
    assert_eq!(segment(&deep, Segment::Layer(1)), source);
    for (index, (source, copy)) in source.iter().zip(&copy).enumerate() {
        // The order of the parameters: o_proj is the fifth, down_proj the ninth.
        let factor = if [4, 8].contains(&index) { 0.5 } else { 1.0 };
        let expected: Vec<f32> = source.iter().map(|value| value * factor).collect();
        assert_eq!(copy, &expected, "parameter {index}");
    }
}

#[test]
fn the_lineage_names_the_source_and_hash_of_every_tensor() {
    let home = tempfile::tempdir().unwrap();
    base(&home.path().join("base"), false, SaveOptions::default());
    let made = write(Request {
        initialization: Initialization::ZeroOut,
        maximum_shard_bytes: 6_000,
        ..request(home.path(), "1..3")
    });
    let deep = home.path().join("deep");
    let text = fs::read_to_string(deep.join(LINEAGE)).unwrap();
    let read: Lineage = serde_json::from_str(&text).unwrap();
    assert_eq!(read.layers.len(), 6);
    assert_eq!(read.tensors.len(), 3 + 6 * 9);
    let copy = &read.tensors["model.layers.4.mlp.up_proj.weight"];
    assert_eq!(copy.source, "model.layers.2.mlp.up_proj.weight");
    assert_eq!(copy.blake3, copy.source_blake3);
    let zeroed = &read.tensors["model.layers.4.mlp.down_proj.weight"];
    assert_ne!(zeroed.blake3, zeroed.source_blake3);
    assert_eq!(zeroed.blake3, Fingerprint::of_bytes(&vec![0; 24 * 16 * 4]));
    let original = &read.tensors["model.layers.2.mlp.down_proj.weight"];
    assert_eq!(original.source_blake3, zeroed.source_blake3);
    assert!(read.files.len() > 1);
    for (name, hash) in &read.files {
        assert_eq!(Fingerprint::of_file(&deep.join(name)).unwrap(), *hash, "{name}");
    }
    assert_eq!(read.files, made.files);
}

#[test]
fn tokenizer_and_settings_come_along_and_overrides_are_recorded() {
    let home = tempfile::tempdir().unwrap();
    base(&home.path().join("base"), false, SaveOptions::default());
    let overrides = Overrides {
        rope_theta: Some(5e6),
        max_position_embeddings: Some(128),
        ..Overrides::default()
    };
    let lineage = write(Request { overrides, ..request(home.path(), "solar 1") });
    let deep = home.path().join("deep");
    assert_eq!(fs::read_to_string(deep.join("tokenizer.json")).unwrap(), "{}");
    assert!(deep.join("generation_config.json").is_file());
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(deep.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["num_hidden_layers"], 6);
    assert_eq!(config["rope_theta"], 5e6);
    assert_eq!(config["max_position_embeddings"], 128);
    assert_eq!(config["eos_token_id"], 2, "what Terrace does not know stays");
    let theta = lineage.overridden.rope_theta.unwrap();
    assert_eq!((theta.from, theta.to), (1e4, 5e6));
    assert!(lineage.overridden.rms_norm_eps.is_none());
}

#[test]
fn bad_requests_leave_nothing() {
    let home = tempfile::tempdir().unwrap();
    base(&home.path().join("base"), false, SaveOptions::default());
    let before = entries(home.path());
    let error = refusal(request(home.path(), "3..5")).to_string();
    assert!(error.contains("reaches beyond the model"), "{error}");
    let overrides = Overrides { rms_norm_eps: Some(-1.0), ..Overrides::default() };
    let error = refusal(Request { overrides, ..request(home.path(), "1..3") }).to_string();
    assert!(error.contains("rms_norm_eps: found -1"), "{error}");
    let error = refusal(Request { source: home.path().join("x"), ..request(home.path(), "1..3") });
    assert!(matches!(error, Error::Model(_)), "{error}");
    assert_eq!(entries(home.path()), before);

    // A folder with something in it, a file, and the base itself are left as they are.
    let taken: [PathBuf; 2] = [home.path().join("base"), home.path().join("base/config.json")];
    for output in taken {
        let error = refusal(Request { output, ..request(home.path(), "1..3") }).to_string();
        assert!(error.contains("name another folder"), "{error}");
    }
    // An empty one is taken.
    fs::create_dir(home.path().join("deep")).unwrap();
    write(request(home.path(), "1..3"));
}

#[test]
fn a_damaged_base_is_refused_by_the_name_of_its_tensor() {
    let home = tempfile::tempdir().unwrap();
    base(&home.path().join("base"), false, SaveOptions::default());
    let config = home.path().join("base/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5"))
        .unwrap();
    let error = refusal(request(home.path(), "1..3")).to_string();
    assert!(error.contains("model.layers.4.") && error.contains("missing"), "{error}");
    fs::write(&config, text).unwrap();
    let weights = home.path().join("base/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let header = bytes.windows(5).position(|part| part == b"\"F32\"").unwrap();
    let mut other = bytes.clone();
    other[header..header + 5].copy_from_slice(b"\"I32\"");
    fs::write(&weights, other).unwrap();
    let error = refusal(request(home.path(), "1..3")).to_string();
    assert!(error.contains("element type I32"), "{error}");
    fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refusal(request(home.path(), "1..3")).to_string().contains("not a valid safetensors"));
    assert_eq!(entries(home.path()), ["base"]);
}

#[test]
fn a_write_that_fails_leaves_no_folder() {
    let home = tempfile::tempdir().unwrap();
    base(&home.path().join("base"), false, SaveOptions::default());
    let planned = Upscaling::plan(request(home.path(), "1..3")).unwrap();
    // The base shrinks after it was checked.
    let weights = home.path().join("base/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    assert!(planned.write(|_| ()).is_err());
    assert_eq!(entries(home.path()), ["base"]);
}
