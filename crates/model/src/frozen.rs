//! A model whose weights are only read, as floats or as eight-bit integers.

use burn::tensor::{Device, Int, Tensor};
use terrace_config::Architecture;
use terrace_kernels::device;
use terrace_kernels::host::{HostTensor, attention_forward, rotate};
use terrace_kernels::{causal_attention, rms_norm, rope, swiglu};

use crate::context::{Composed, Form, Fused, OnDevice};
use crate::layer::attention_shape;
use crate::{
    CausalLm, Error, Layer, Linear, ParameterSpec, Precision, Segment, SequenceContext,
    segment_specs,
};

/// A causal language model for inference: [`CausalLm`](crate::CausalLm) with products of either
/// form.
#[derive(Clone, Debug)]
pub struct FrozenLm {
    /// The shape of the model.
    pub architecture: Architecture,
    /// `[v, d]`.
    pub embed_tokens: Tensor<2>,
    /// From the bottom up.
    pub layers: Vec<FrozenLayer>,
    /// The final norm, `[1, d]`.
    pub norm: Tensor<2>,
    /// `[v, d]`; the embedding where it is tied to it.
    pub lm_head: Linear,
}

/// One decoder layer of a [`FrozenLm`]; norms are `[1, d]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields carry Hugging Face's own names")]
pub struct FrozenLayer {
    pub input_layernorm: Tensor<2>,
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub o_proj: Linear,
    pub post_attention_layernorm: Tensor<2>,
    pub gate_proj: Linear,
    pub up_proj: Linear,
    pub down_proj: Linear,
}

/// Builds a model from functions that give each norm or table, and each product, in the order in
/// which they are in the model.
pub(crate) fn assemble(
    architecture: &Architecture,
    float: impl Fn(&ParameterSpec) -> Tensor<2>,
    linear: impl Fn(&ParameterSpec) -> Result<Linear, Error>,
) -> Result<FrozenLm, Error> {
    let embed_tokens = float(&segment_specs(architecture, Segment::Embedding)[0]);
    let layer = |index| {
        let specs = segment_specs(architecture, Segment::Layer(index));
        Ok(FrozenLayer {
            input_layernorm: float(&specs[0]),
            q_proj: linear(&specs[1])?,
            k_proj: linear(&specs[2])?,
            v_proj: linear(&specs[3])?,
            o_proj: linear(&specs[4])?,
            post_attention_layernorm: float(&specs[5]),
            gate_proj: linear(&specs[6])?,
            up_proj: linear(&specs[7])?,
            down_proj: linear(&specs[8])?,
        })
    };
    let layers = (0..architecture.num_hidden_layers as usize).map(layer);
    let layers = layers.collect::<Result<Vec<_>, Error>>()?;
    let head = segment_specs(architecture, Segment::Head);
    let lm_head = match head.get(1) {
        Some(spec) => linear(spec)?,
        None => Linear::Float(embed_tokens.clone()),
    };
    let (architecture, norm) = (architecture.clone(), float(&head[0]));
    Ok(FrozenLm { architecture, embed_tokens, layers, norm, lm_head })
}

impl From<CausalLm> for FrozenLm {
    fn from(model: CausalLm) -> Self {
        Self {
            lm_head: Linear::Float(model.output_projection()),
            architecture: model.architecture,
            embed_tokens: model.embed_tokens,
            layers: model.layers.into_iter().map(FrozenLayer::from).collect(),
            norm: model.norm,
        }
    }
}

impl From<Layer> for FrozenLayer {
    fn from(layer: Layer) -> Self {
        Self {
            input_layernorm: layer.input_layernorm,
            q_proj: Linear::Float(layer.q_proj),
            k_proj: Linear::Float(layer.k_proj),
            v_proj: Linear::Float(layer.v_proj),
            o_proj: Linear::Float(layer.o_proj),
            post_attention_layernorm: layer.post_attention_layernorm,
            gate_proj: Linear::Float(layer.gate_proj),
            up_proj: Linear::Float(layer.up_proj),
            down_proj: Linear::Float(layer.down_proj),
        }
    }
}

impl FrozenLm {
    /// The device that holds the embedding and the norms.
    #[must_use]
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }

    /// The format of weights, activations and cache.
    #[must_use]
    pub fn precision(&self) -> Precision {
        Precision::of(self.embed_tokens.dtype())
    }

    /// The bytes of weights that the pass of a single token reads: all of them, of the embedding a row.
    #[must_use]
    pub fn bytes_per_pass(&self) -> u64 {
        let linears = self.layers.iter().flat_map(FrozenLayer::linears).chain([&self.lm_head]);
        linears.map(|linear| linear.bytes() as u64).sum()
    }

    /// Brings the model to a device in a precision, a tensor at a time: of the model as it was each is
    /// given up before the next is brought over.
    ///
    /// Integers stay integers.
    #[must_use]
    pub fn placed(self, device: &Device, precision: Precision) -> Self {
        let float = |x: Tensor<2>| place(x, device, precision);
        let linear = |linear: Linear| match linear {
            Linear::Float(weight) => Linear::Float(float(weight)),
            Linear::Int8(matrix) => Linear::int8(matrix, device, precision),
            Linear::Int8OnDevice(weight) => Linear::Int8OnDevice(weight),
        };
        let is_tied = self.architecture.tie_word_embeddings;
        let embed_tokens = float(self.embed_tokens);
        let lm_head =
            if is_tied { Linear::Float(embed_tokens.clone()) } else { linear(self.lm_head) };
        let layer = |layer: FrozenLayer| FrozenLayer {
            input_layernorm: float(layer.input_layernorm),
            q_proj: linear(layer.q_proj),
            k_proj: linear(layer.k_proj),
            v_proj: linear(layer.v_proj),
            o_proj: linear(layer.o_proj),
            post_attention_layernorm: float(layer.post_attention_layernorm),
            gate_proj: linear(layer.gate_proj),
            up_proj: linear(layer.up_proj),
            down_proj: linear(layer.down_proj),
        };
        Self {
            architecture: self.architecture,
            embed_tokens,
            layers: self.layers.into_iter().map(layer).collect(),
            norm: float(self.norm),
            lm_head,
        }
    }

    /// The final hidden states, normed: what the output projection is applied to.
    ///
    /// # Shapes
    ///
    /// `tokens` `[b·t]`; gives `[b·t, d]`.
    #[must_use]
    pub fn hidden_states(&self, tokens: Tensor<1, Int>, context: &SequenceContext) -> Tensor<2> {
        let mut x = self.embed_tokens.clone().select(0, tokens);
        for layer in &self.layers {
            x = layer.forward(&self.architecture, x, context);
        }
        rms_norm(x, self.norm.clone(), self.architecture.rms_norm_eps)
    }
}

/// Brings floats to a device in a precision, by way of the host.
fn place(x: Tensor<2>, device: &Device, precision: Precision) -> Tensor<2> {
    let here = x.device() == *device;
    if here {
        return x.cast(precision.float());
    }
    // What is brought over is in its final format.
    let data = x.into_data().convert_dtype(precision.float().into());
    let dtype = data.dtype();
    Tensor::from_data(data, (device, dtype))
}

impl FrozenLayer {
    /// The linear products, in the order of their names in a folder.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        [
            &self.q_proj,
            &self.k_proj,
            &self.v_proj,
            &self.o_proj,
            &self.gate_proj,
            &self.up_proj,
            &self.down_proj,
        ]
        .into_iter()
    }

    /// Adds the layer's attention and MLP to the residual stream.
    ///
    /// # Shapes
    ///
    /// `x` `[b·t, d]`; gives the same.
    #[must_use]
    pub fn forward(
        &self,
        architecture: &Architecture,
        x: Tensor<2>,
        context: &SequenceContext,
    ) -> Tensor<2> {
        let epsilon = architecture.rms_norm_eps;
        let normed = rms_norm(x.clone(), self.input_layernorm.clone(), epsilon);
        let mixed = match context.form() {
            Form::Fused(fused) => self.attention_fused(architecture, normed, fused),
            Form::OnDevice(context) => self.attention_on_device(architecture, normed, context),
            Form::Composed(composed) => {
                self.attention_composed(architecture, normed, context.shape(), composed)
            }
        };
        let x = x + self.o_proj.forward(mixed);
        let normed = rms_norm(x.clone(), self.post_attention_layernorm.clone(), epsilon);
        let gate = self.gate_proj.forward(normed.clone());
        let up = self.up_proj.forward(normed);
        x + self.down_proj.forward(swiglu(gate, up))
    }

    /// Gives what the heads have mixed, `[b·t, n·h]`.
    fn attention_fused(
        &self,
        architecture: &Architecture,
        normed: Tensor<2>,
        context: &Fused,
    ) -> Tensor<2> {
        let (rows, device) = (normed.dims()[0], normed.device());
        let mut q = HostTensor::new(self.q_proj.forward(normed.clone())).into_buffer();
        let mut k = HostTensor::new(self.k_proj.forward(normed.clone())).into_buffer();
        let v = HostTensor::new(self.v_proj.forward(normed));
        rotate(&mut q, &context.rotations, false);
        rotate(&mut k, &context.rotations, false);
        let shape = attention_shape(architecture);
        let (mixed, _) = attention_forward(&q, &k, &v, &context.documents, shape);
        let width = mixed.len() / rows;
        mixed.into_tensor([rows, width], &device)
    }

    /// The same in the memory of a device with kernels.
    fn attention_on_device(
        &self,
        architecture: &Architecture,
        normed: Tensor<2>,
        context: &OnDevice,
    ) -> Tensor<2> {
        let rotated =
            |heads| device::rotate(heads, context.cos.clone(), context.sin.clone(), false);
        let q = rotated(self.q_proj.forward(normed.clone()));
        let k = rotated(self.k_proj.forward(normed.clone()));
        let (v, shape) = (self.v_proj.forward(normed), attention_shape(architecture));
        device::attention_forward(q, k, v, &context.documents, shape).0
    }

    fn attention_composed(
        &self,
        architecture: &Architecture,
        normed: Tensor<2>,
        [b, t]: [usize; 2],
        context: &Composed,
    ) -> Tensor<2> {
        let head = architecture.head_dim as usize;
        let heads = |projection: &Linear| {
            let [out, _] = projection.shape();
            projection.forward(normed.clone()).reshape([b, t, out / head, head])
        };
        let (cos, sin) = (context.cos.clone(), context.sin.clone());
        let q = rope(heads(&self.q_proj), cos.clone(), sin.clone());
        let k = rope(heads(&self.k_proj), cos, sin);
        causal_attention(q, k, heads(&self.v_proj), &context.mask)
    }
}
