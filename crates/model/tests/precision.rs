//! Folders loaded in another precision than they have.

use burn::tensor::{DType, Device, Tensor};
use half::bf16;
use terrace_base::Dtype;
use terrace_model::hf::{self, SaveOptions};
use terrace_model::{FrozenLm, Linear, Precision};
use terrace_testkit::Golden;

/// All floats of a model, in f32.
fn floats(model: &FrozenLm, dtype: DType) -> Vec<f32> {
    let mut all = Vec::new();
    let mut take = |x: &Tensor<2>| {
        assert_eq!(x.dtype(), dtype);
        let wide = x.clone().cast(burn::tensor::FloatDType::F32);
        all.extend(wide.into_data().try_to_vec::<f32>().unwrap());
    };
    take(&model.embed_tokens);
    for layer in &model.layers {
        take(&layer.input_layernorm);
        take(&layer.post_attention_layernorm);
        for linear in layer.linears() {
            let Linear::Float(weight) = linear else { panic!("they are floats") };
            take(weight);
        }
    }
    take(&model.norm);
    let Linear::Float(head) = &model.lm_head else { panic!("it is of floats") };
    take(head);
    all
}

#[test]
fn a_folder_is_rounded_once_and_one_in_bf16_is_taken_as_it_is() {
    let device = Device::flex();
    for name in ["tied", "gqa-untied"] {
        let golden = Golden::open(name);
        let wide = hf::load_frozen(&golden.model(), &device).unwrap();
        assert_eq!(wide.precision(), Precision::F32);
        let rounded: Vec<f32> =
            floats(&wide, DType::F32).iter().map(|x| bf16::from_f32(*x).to_f32()).collect();

        let narrow = hf::load_frozen_in(&golden.model(), &device, Precision::Bf16).unwrap();
        assert_eq!(narrow.precision(), Precision::Bf16);
        assert_eq!(floats(&narrow, DType::BF16), rounded);
        assert_eq!(2 * narrow.bytes_per_pass(), wide.bytes_per_pass());
        let placed = wide.placed(&device, Precision::Bf16);
        assert_eq!(floats(&placed, DType::BF16), rounded);

        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("bf16");
        let model = hf::load(&golden.model(), &device).unwrap();
        let options = SaveOptions { dtype: Dtype::Bf16, ..SaveOptions::default() };
        hf::save(&model, &folder, options).unwrap();
        let stored = hf::load_frozen_in(&folder, &device, Precision::Bf16).unwrap();
        assert_eq!(floats(&stored, DType::BF16), rounded);
        let widened = hf::load_frozen(&folder, &device).unwrap();
        assert_eq!(floats(&widened, DType::F32), rounded);
    }
}

#[test]
fn random_models_have_the_shape_and_the_deviation_that_they_are_asked_for() {
    let device = Device::flex();
    let golden = Golden::open("gqa-untied");
    let architecture = hf::architecture(&golden.model()).unwrap();
    let one = FrozenLm::random(&architecture, None, &device, Precision::F32).unwrap();
    let values: Vec<f32> = one.embed_tokens.clone().into_data().try_to_vec().unwrap();
    let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64;
    let deviation = square.sqrt() / architecture.initializer_range;
    assert!((deviation - 1.0).abs() < 0.1, "{deviation}");
    let scheme = Some(hf::Quantization { lm_head: true });
    let integers = FrozenLm::random(&architecture, scheme, &device, Precision::Bf16).unwrap();
    assert!(matches!(integers.lm_head, Linear::Int8OnDevice(_)));
    assert!(integers.bytes_per_pass() < one.bytes_per_pass() / 3);
}
