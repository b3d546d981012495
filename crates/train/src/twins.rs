//! How far copies of layers have drifted from what they are copies of.

use burn::tensor::{FloatDType, Tensor};
use serde::{Deserialize, Serialize};
use terrace_model::{CausalLm, Segment};
use terrace_policy::layer_map::LayerMap;

/// The likeness of a copy and its twin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwinCosine {
    /// The layer below.
    pub original: usize,
    /// The layer above, which began as its copy.
    pub copy: usize,
    /// The cosine between all their weights, each layer laid out as one vector.
    pub cosine: f64,
}

/// Compares the weights of every copy with those of its twin.
///
/// NaN where all weights of a layer are zero.
///
/// # Panics
///
/// The map is not the model's.
#[must_use]
pub fn twin_cosines(model: &CausalLm, map: &LayerMap) -> Vec<TwinCosine> {
    assert_eq!(map.layers().len(), model.layers.len(), "the map of another model");
    let twin = |(original, copy)| {
        let [a, b] = [original, copy].map(|layer| model.segment_parameters(Segment::Layer(layer)));
        let wide = |tensor: &Tensor<2>| tensor.clone().cast(FloatDType::F32);
        let dot = |a: &[Tensor<2>], b: &[Tensor<2>]| {
            let pairs = a.iter().zip(b);
            // SYNC: telemetry at the edges of stages, not within the step.
            pairs
                .map(|(a, b)| f64::from((wide(a) * wide(b)).sum().into_scalar::<f32>()))
                .sum::<f64>()
        };
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        TwinCosine { original, copy, cosine }
    };
    map.twins().map(twin).collect()
}
