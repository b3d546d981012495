//! A model made from nothing.

use burn::tensor::{Device, Tensor, TensorData};
use terrace_base::Seed;
use terrace_config::Architecture;

use crate::{CausalLm, Initializer, Layer, ParameterSpec, Segment, segment_specs};

/// Draws the weights of a model.
///
/// # Determinism
///
/// Element `i` of a parameter is a function of the seed, the parameter's name and `i` alone.
///
/// # Source
///
/// Normal with `initializer_range`, norms at 1, as Hugging Face initialises Llama.
#[must_use]
pub fn initialize(architecture: &Architecture, seed: Seed, device: &Device) -> CausalLm {
    assemble(architecture, |spec| draw(spec, seed, device))
}

/// Builds a model from a function that gives each parameter.
pub(crate) fn assemble(
    architecture: &Architecture,
    mut parameter: impl FnMut(&ParameterSpec) -> Tensor<2>,
) -> CausalLm {
    let mut segment = |segment| -> Vec<Tensor<2>> {
        segment_specs(architecture, segment).iter().map(&mut parameter).collect()
    };
    let embed_tokens = segment(Segment::Embedding).remove(0);
    let layers = (0..architecture.num_hidden_layers as usize)
        .map(|index| Layer::from_parameters(segment(Segment::Layer(index))))
        .collect();
    let mut head = segment(Segment::Head).into_iter();
    CausalLm {
        architecture: architecture.clone(),
        embed_tokens,
        layers,
        norm: head.next().expect("the head has a norm"),
        lm_head: head.next(),
    }
}

fn draw(spec: &ParameterSpec, seed: Seed, device: &Device) -> Tensor<2> {
    let shape = spec.matrix_shape();
    match spec.initializer {
        Initializer::Ones => Tensor::ones(shape, device),
        Initializer::Normal(deviation) => {
            let stream = seed.stream(&format!("initialize {}", spec.name));
            let values: Vec<f32> = (0..spec.elements() as u64)
                .map(|i| (stream.normal(i) * deviation) as f32)
                .collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        }
    }
}
