//! The model against `transformers`: logits, positions, packing, folders.

use burn::tensor::{Device, Int, Tensor, TensorData};
use terrace_base::Dtype;
use terrace_kernels::RopeTable;
use terrace_model::hf::{self, SaveOptions};
use terrace_model::{CausalLm, Error, SequenceContext};
use terrace_testkit::{Golden, Tolerance};

const LOGITS: Tolerance = Tolerance { absolute: 5e-5, relative: 1e-5 };

fn load(golden: &Golden) -> CausalLm {
    hf::load(&golden.model(), &Device::flex()).unwrap()
}

/// The logits of `[b, t]` tokens at given positions and documents.
fn logits(
    model: &CausalLm,
    tokens: &[i32],
    positions: &[i32],
    segments: &[i32],
    shape: [usize; 2],
) -> Vec<f32> {
    let device = Device::flex();
    let architecture = &model.architecture;
    let table =
        RopeTable::new(8192, architecture.head_dim as usize, architecture.rope_theta, &device);
    let context = SequenceContext::new(architecture, &table, positions, segments, shape, &device);
    let ids: Tensor<1, Int> =
        Tensor::from_data(TensorData::new(tokens.to_vec(), [tokens.len()]), &device);
    model.logits(ids, &context).into_data().try_to_vec().unwrap()
}

fn plain_logits(golden: &Golden, model: &CausalLm, t: usize) -> Vec<f32> {
    let tokens = golden.integers("input_ids");
    let b = tokens.len() / t;
    let positions: Vec<i32> = (0..b).flat_map(|_| 0..t as i32).collect();
    logits(model, &tokens, &positions, &vec![0; b * t], [b, t])
}

#[test]
fn logits_agree_with_transformers() {
    for (case, t) in
        [("gqa-untied", 24), ("tied", 24), ("head-dim", 24), ("sharded", 24), ("f16", 16)]
    {
        let golden = Golden::open(case);
        let model = load(&golden);
        let found = plain_logits(&golden, &model, t);
        golden.assert_close("logits", &found, LOGITS);
        golden.assert_close("logits_f64", &found, LOGITS);
    }
}

#[test]
fn long_positions_agree_with_f64() {
    let golden = Golden::open("long-positions");
    let model = load(&golden);
    let tokens = golden.integers("input_ids");
    let found =
        logits(&model, &tokens, &golden.integers("position_ids"), &[0; 4], [1, tokens.len()]);
    golden.assert_close("logits_f64", &found, LOGITS);
}

#[test]
fn packed_documents_do_not_see_each_other() {
    let golden = Golden::open("packed");
    let model = load(&golden);
    let mut tokens = golden.integers("input_ids");
    let lengths = [7, 1, 12, 4];
    let positions: Vec<i32> = lengths.iter().flat_map(|n| 0..*n).collect();
    let segments: Vec<i32> =
        lengths.iter().zip(0..).flat_map(|(n, d)| std::iter::repeat_n(d, *n as usize)).collect();
    let found = logits(&model, &tokens, &positions, &segments, [1, 24]);
    let v = found.len() / 24;
    golden.assert_close("logits_doc0", &found[..7 * v], LOGITS);
    golden.assert_close("logits_doc1", &found[7 * v..8 * v], LOGITS);
    golden.assert_close("logits_doc2", &found[8 * v..20 * v], LOGITS);

    // Whatever the first document says, the third one's logits keep every bit.
    tokens[..7].iter_mut().for_each(|token| *token = (*token + 1) % 96);
    let other = logits(&model, &tokens, &positions, &segments, [1, 24]);
    assert_ne!(found[..7 * v], other[..7 * v]);
    assert_eq!(found[7 * v..], other[7 * v..]);
}

#[test]
fn a_folder_survives_loading_and_saving() {
    for case in ["gqa-untied", "tied", "head-dim"] {
        let golden = Golden::open(case);
        let home = tempfile::tempdir().unwrap();
        hf::save(&load(&golden), home.path(), SaveOptions::default()).unwrap();
        let tensors = |path: &std::path::Path| {
            let bytes = std::fs::read(path.join("model.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut all: Vec<(String, Vec<u8>)> =
                file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
            all.sort();
            all
        };
        assert_eq!(tensors(&golden.model()), tensors(home.path()), "{case}");
    }
}

#[test]
fn sharded_bf16_round_trips() {
    let golden = Golden::open("sharded");
    let model = load(&golden);
    let home = tempfile::tempdir().unwrap();
    let options = SaveOptions { dtype: Dtype::Bf16, maximum_shard_bytes: 20_000 };
    hf::save(&model, home.path(), options).unwrap();
    assert!(home.path().join("model.safetensors.index.json").exists());
    let again = hf::load(home.path(), &Device::flex()).unwrap();
    assert_eq!(plain_logits(&golden, &model, 24), plain_logits(&golden, &again, 24));
}

/// Copies a model folder with its configuration changed.
fn with_config(change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
    let source = Golden::open("gqa-untied").model();
    let home = tempfile::tempdir().unwrap();
    std::fs::copy(source.join("model.safetensors"), home.path().join("model.safetensors")).unwrap();
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config = serde_json::from_str(&text).unwrap();
    change(&mut config);
    std::fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    home
}

#[test]
fn a_folder_that_contradicts_itself_is_refused_by_name() {
    let refuse = |change: &dyn Fn(&mut serde_json::Value)| {
        hf::load(with_config(change).path(), &Device::flex()).unwrap_err()
    };
    let error = refuse(&|config| config["num_hidden_layers"] = 4.into());
    assert!(
        matches!(&error, Error::MissingTensor { name, .. } if name.contains("layers.3")),
        "{error}"
    );
    let error = refuse(&|config| config["num_hidden_layers"] = 2.into());
    assert!(
        matches!(&error, Error::UnexpectedTensor { name, .. } if name.contains("layers.2")),
        "{error}"
    );
    let error = refuse(&|config| config["intermediate_size"] = 81.into());
    assert!(matches!(&error, Error::Shape { name, .. } if name.contains("mlp")), "{error}");
    let error = refuse(&|config| config["architectures"] = serde_json::json!(["GPT2LMHeadModel"]));
    assert!(matches!(error, Error::Config { .. }), "{error}");
}
