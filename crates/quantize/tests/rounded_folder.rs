//! A rounded folder against the one that it was made from.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use terrace_base::Dtype;
use terrace_config::Architecture;
use terrace_kernels::{RopeTable, linear};
use terrace_model::hf::{self, Quantization};
use terrace_model::{CausalLm, FrozenLm, Linear, SequenceContext};
use terrace_quantize::{Error, Quantizing};

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(case).join("model")
}

fn rounded(case: &str, output: &Path, lm_head: bool, shard: u64) -> FrozenLm {
    let planned = Quantizing::plan(&golden(case), output, Quantization { lm_head }).unwrap();
    let (sizes, mut last) = (planned.sizes(), 0);
    let written = planned.write(shard, |done| {
        assert!(done >= last);
        last = done;
    });
    assert_eq!(written.unwrap(), sizes);
    assert_eq!(last, sizes.bytes_before);
    hf::load_frozen(output, &Device::flex()).unwrap()
}

fn values(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.clone().into_data().try_to_vec().unwrap()
}

/// Every weight within half a step of the original's, with at least one that moved.
fn assert_rounded(found: &Linear, original: &Tensor<2>) {
    let Linear::Int8(matrix) = found else { panic!("it was rounded") };
    assert_eq!(matrix.shape(), original.dims());
    let inputs = matrix.shape()[1];
    let mut moved = 0;
    for (index, (known, weight)) in matrix.dequantize().iter().zip(values(original)).enumerate() {
        let block = index / inputs * inputs.div_ceil(32) + index % inputs / 32;
        // A positive number of half precision: five bits of exponent, ten of mantissa.
        let bits = matrix.scales()[block];
        let (exponent, mantissa) = (i32::from(bits >> 10), f32::from(bits & 0x3ff));
        let scale = match exponent {
            0 => mantissa * 2f32.powi(-24),
            _ => (1024.0 + mantissa) * 2f32.powi(exponent - 25),
        };
        assert!((known - weight).abs() <= 0.5 * scale * 1.00001, "{index}: {known} {weight}");
        moved += usize::from(*known != weight);
    }
    assert!(moved > 0);
}

fn assert_same_but_rounded(model: &CausalLm, found: &FrozenLm, lm_head: bool) {
    assert_eq!(model.architecture, found.architecture);
    assert_eq!(values(&model.embed_tokens), values(&found.embed_tokens));
    assert_eq!(values(&model.norm), values(&found.norm));
    for (a, b) in model.layers.iter().zip(&found.layers) {
        assert_eq!(values(&a.input_layernorm), values(&b.input_layernorm));
        assert_eq!(values(&a.post_attention_layernorm), values(&b.post_attention_layernorm));
        for (found, original) in [
            (&b.q_proj, &a.q_proj),
            (&b.k_proj, &a.k_proj),
            (&b.v_proj, &a.v_proj),
            (&b.o_proj, &a.o_proj),
            (&b.gate_proj, &a.gate_proj),
            (&b.up_proj, &a.up_proj),
            (&b.down_proj, &a.down_proj),
        ] {
            assert_rounded(found, original);
        }
    }
    match &found.lm_head {
        head if lm_head => assert_rounded(head, &model.output_projection()),
        Linear::Float(head) => assert_eq!(values(head), values(&model.output_projection())),
        Linear::Int8(_) | Linear::Int8OnDevice(_) => panic!("it was to stay"),
    }
}

#[test]
fn weights_are_rounded_and_the_rest_is_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    for (case, lm_head, shard) in [
        ("gqa-untied", false, 1 << 30),
        ("gqa-untied", true, 1 << 30),
        ("tied", false, 2_000),
        ("head-dim", false, 1),
        ("sharded", true, 10_000),
        ("f16", false, 1 << 30),
    ] {
        let output = home.path().join(format!("{case}-{lm_head}"));
        let found = rounded(case, &output, lm_head, shard);
        assert_eq!(output.join("model.safetensors.index.json").exists(), shard < 1 << 30);
        let model = hf::load(&golden(case), &Device::flex()).unwrap();
        assert_same_but_rounded(&model, &found, lm_head);
    }
}

/// The logits of some tokens, `[t, v]`, in either form of the context.
fn logits(model: &FrozenLm, composed: bool) -> Vec<f32> {
    let (device, architecture) = (Device::flex(), &model.architecture);
    let (t, head) = (12, architecture.head_dim as usize);
    let rope = RopeTable::new(t, head, architecture.rope_theta, &device);
    let positions: Vec<i32> = (0..t as i32).collect();
    let make = if composed { SequenceContext::composed } else { SequenceContext::new };
    let context = make(architecture, &rope, &positions, &vec![0; t], [1, t], &device);
    let ids = TensorData::new((0..t as i32).map(|i| i * 5 % 60).collect::<Vec<i32>>(), [t]);
    let hidden = model.hidden_states(Tensor::<1, Int>::from_data(ids, &device), &context);
    values(&model.lm_head.forward(hidden))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn both_forms_compute_the_same_and_what_the_dequantised_weights_do() {
    let home = tempfile::tempdir().unwrap();
    let found = rounded("gqa-untied", &home.path().join("int8"), true, 1 << 30);
    let mut floats = found.clone();
    let float = |linear: &mut Linear| {
        if let Linear::Int8(matrix) = linear {
            let data = TensorData::new(matrix.dequantize(), matrix.shape());
            *linear = Linear::Float(Tensor::from_data(data, &Device::flex()));
        }
    };
    float(&mut floats.lm_head);
    for layer in &mut floats.layers {
        [&mut layer.q_proj, &mut layer.k_proj, &mut layer.v_proj, &mut layer.o_proj]
            .into_iter()
            .chain([&mut layer.gate_proj, &mut layer.up_proj, &mut layer.down_proj])
            .for_each(float);
    }
    let fused = logits(&found, false);
    assert!(largest_difference(&fused, &logits(&found, true)) < 1e-4);
    assert!(largest_difference(&fused, &logits(&floats, false)) < 1e-4);
    // And it is not the original: rounding shows.
    let original = hf::load_frozen(&golden("gqa-untied"), &Device::flex()).unwrap();
    let moved = largest_difference(&fused, &logits(&original, false));
    assert!(moved > 1e-5 && moved < 0.2, "{moved}");
}

#[test]
fn a_frozen_model_of_floats_computes_what_the_trained_one_does() {
    let device = Device::flex();
    let model = hf::load(&golden("tied"), &device).unwrap();
    let frozen = hf::load_frozen(&golden("tied"), &device).unwrap();
    let (architecture, t) = (&model.architecture, 12);
    let rope = RopeTable::new(t, architecture.head_dim as usize, architecture.rope_theta, &device);
    let positions: Vec<i32> = (0..t as i32).collect();
    let context =
        SequenceContext::new(architecture, &rope, &positions, &vec![0; t], [1, t], &device);
    let ids = TensorData::new((0..t as i32).map(|i| i * 5 % 60).collect::<Vec<i32>>(), [t]);
    let hidden = model.hidden_states(Tensor::<1, Int>::from_data(ids, &device), &context);
    let expected = values(&linear(hidden, model.output_projection()));
    assert!(largest_difference(&expected, &logits(&frozen, false)) < 1e-4);
}

#[test]
fn yi_9b_fits_a_card_of_24_gib_beside_its_sequences() {
    let yi = Architecture::from_hugging_face(
        r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "vocab_size": 64000, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false}"#,
    )
    .unwrap();
    let floats = 2 * yi.parameter_count();
    let integers = Quantization { lm_head: false }.weight_bytes(&yi, Dtype::Bf16);
    // 48 layers of 173,015,040 weights in products; two tables of 64,000 x 4,096, 97 norms.
    let products = 48 * 173_015_040_u64;
    assert_eq!(floats, 2 * (products + 2 * 64_000 * 4_096 + 97 * 4_096));
    assert_eq!(integers, floats - 2 * products + products + products / 16);
    // Keys and values in bf16.
    let sequence = 4_096 * 48 * 2 * 4 * 128 * 2;
    let card = (24 << 30) - (3 << 29);
    let beside = |weights: u64| (card - weights) / sequence;
    assert!(beside(floats) >= 12, "{}", beside(floats));
    assert!(beside(integers) >= 32, "{}", beside(integers));
}

#[test]
fn what_cannot_be_rounded_or_read_says_why() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("int8");
    let tied = Quantizing::plan(&golden("tied"), &output, Quantization { lm_head: true });
    assert!(matches!(tied, Err(Error::Tied { .. })));
    rounded("tied", &output, false, 1 << 30);
    let message = |result: Result<CausalLm, terrace_model::Error>| result.unwrap_err().to_string();
    let error = message(hf::load(&output, &Device::flex()));
    assert!(error.contains("name the folder that they were made from"), "{error}");

    let config = output.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    for (from, to, expected) in [
        ("terrace_int8", "gptq", "quant_method is \"gptq\", expected \"terrace_int8\""),
        ("\"block_size\": 32", "\"block_size\": 64", "block_size is 64, expected 32"),
        ("\"up_proj\",", "", "expected all of q_proj"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        std::fs::write(&config, text.replace(from, to)).unwrap();
        let error = hf::load_frozen(&output, &Device::flex()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Without the description the integers are not taken for weights.
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.as_object_mut().unwrap().remove("quantization_config");
    std::fs::write(&config, value.to_string()).unwrap();
    let error = hf::load_frozen(&output, &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("element type I8"), "{error}");
}
