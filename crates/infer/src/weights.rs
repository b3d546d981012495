//! The weights of a model in the form that inference multiplies by.

use burn::tensor::{Device, Tensor};
use terrace_config::Architecture;
use terrace_model::{CausalLm, Layer};

use crate::Projection;

/// One decoder layer; norms `[1, d]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields carry Hugging Face's own names")]
pub struct LayerWeights {
    pub input_layernorm: Tensor<2>,
    pub q_proj: Projection,
    pub k_proj: Projection,
    pub v_proj: Projection,
    pub o_proj: Projection,
    pub post_attention_layernorm: Tensor<2>,
    pub gate_proj: Projection,
    pub up_proj: Projection,
    pub down_proj: Projection,
}

/// A whole model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The shape of the model.
    pub architecture: Architecture,
    /// `[v, d]`.
    pub embed_tokens: Tensor<2>,
    /// From the bottom up.
    pub layers: Vec<LayerWeights>,
    /// The final norm, `[1, d]`.
    pub norm: Tensor<2>,
    /// To the vocabulary; shares the embedding's memory where it is tied.
    pub lm_head: Projection,
}

impl Weights {
    /// The device that holds them.
    #[must_use]
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }
}

impl From<Layer> for LayerWeights {
    fn from(layer: Layer) -> Self {
        Self {
            input_layernorm: layer.input_layernorm,
            q_proj: Projection::Full(layer.q_proj),
            k_proj: Projection::Full(layer.k_proj),
            v_proj: Projection::Full(layer.v_proj),
            o_proj: Projection::Full(layer.o_proj),
            post_attention_layernorm: layer.post_attention_layernorm,
            gate_proj: Projection::Full(layer.gate_proj),
            up_proj: Projection::Full(layer.up_proj),
            down_proj: Projection::Full(layer.down_proj),
        }
    }
}

impl From<CausalLm> for Weights {
    fn from(model: CausalLm) -> Self {
        let lm_head = Projection::Full(model.output_projection());
        Self {
            architecture: model.architecture,
            embed_tokens: model.embed_tokens,
            layers: model.layers.into_iter().map(LayerWeights::from).collect(),
            norm: model.norm,
            lm_head,
        }
    }
}
