//! One decoder layer.

mod device;
mod fused;

use burn::tensor::Tensor;
use terrace_config::Architecture;
use terrace_kernels::host::AttentionShape;
use terrace_kernels::{causal_attention, linear, rms_norm, rope, swiglu};

use device::DeviceTape;
use fused::FusedTape;

use crate::SequenceContext;
use crate::context::{Composed, Form};

/// The weights of one decoder layer, `[out, in]`; norms `[1, d]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields carry Hugging Face's own names")]
pub struct Layer {
    pub input_layernorm: Tensor<2>,
    pub q_proj: Tensor<2>,
    pub k_proj: Tensor<2>,
    pub v_proj: Tensor<2>,
    pub o_proj: Tensor<2>,
    pub post_attention_layernorm: Tensor<2>,
    pub gate_proj: Tensor<2>,
    pub up_proj: Tensor<2>,
    pub down_proj: Tensor<2>,
}

/// What a layer's [`backward`](Layer::backward) pass needs of its forward pass.
#[derive(Debug)]
pub struct LayerTape(Tape);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of handles per layer, made once a pass")]
enum Tape {
    Fused(FusedTape),
    OnDevice(Box<DeviceTape>),
}

/// The extents of a model's attention.
pub(crate) fn attention_shape(architecture: &Architecture) -> AttentionShape {
    AttentionShape {
        heads: architecture.num_attention_heads as usize,
        kv_heads: architecture.num_key_value_heads as usize,
        head_dim: architecture.head_dim as usize,
    }
}

impl Layer {
    /// The weights in the order of [`segment_specs`](crate::segment_specs).
    #[must_use]
    pub fn parameters(&self) -> Vec<Tensor<2>> {
        [
            &self.input_layernorm,
            &self.q_proj,
            &self.k_proj,
            &self.v_proj,
            &self.o_proj,
            &self.post_attention_layernorm,
            &self.gate_proj,
            &self.up_proj,
            &self.down_proj,
        ]
        .map(Tensor::clone)
        .to_vec()
    }

    /// Makes a layer of weights in the order of [`parameters`](Self::parameters).
    ///
    /// # Panics
    ///
    /// There are not exactly nine.
    #[must_use]
    pub fn from_parameters(parameters: Vec<Tensor<2>>) -> Self {
        let [
            input_layernorm,
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            post_attention_layernorm,
            gate_proj,
            up_proj,
            down_proj,
        ]: [Tensor<2>; 9] = parameters.try_into().expect("a layer has nine parameters");
        Self {
            input_layernorm,
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            post_attention_layernorm,
            gate_proj,
            up_proj,
            down_proj,
        }
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
        match context.form() {
            Form::Fused(fused) => self.forward_fused(architecture, &x, fused),
            Form::OnDevice(device) => self.forward_on_device(architecture, x, device),
            Form::Composed(composed) => {
                self.forward_composed(architecture, x, context.shape(), composed)
            }
        }
    }

    /// Runs the layer and keeps what its [`backward`](Self::backward) pass needs.
    ///
    /// None where the context [has no tapes](SequenceContext::has_tapes): there the graph of
    /// [`forward`](Self::forward) gives the gradients.
    #[must_use]
    pub fn forward_taped(
        &self,
        architecture: &Architecture,
        x: &Tensor<2>,
        context: &SequenceContext,
    ) -> Option<(Tensor<2>, LayerTape)> {
        match context.form() {
            Form::Fused(fused) => {
                let (output, tape) = self.forward_taped_fused(architecture, x, fused);
                Some((output, LayerTape(Tape::Fused(tape))))
            }
            Form::OnDevice(device) => {
                let (output, tape) = self.forward_taped_on_device(architecture, x.clone(), device);
                Some((output, LayerTape(Tape::OnDevice(Box::new(tape)))))
            }
            Form::Composed(_) => None,
        }
    }

    /// Runs the layer again for its [`backward`](Self::backward) pass: less work than
    /// [`forward_taped`](Self::forward_taped), but no output. On the host the backward pass then takes
    /// the MLP some rows at a time, which saves memory too.
    #[must_use]
    pub fn retape(
        &self,
        architecture: &Architecture,
        x: &Tensor<2>,
        context: &SequenceContext,
    ) -> Option<LayerTape> {
        match context.form() {
            Form::Fused(fused) => {
                Some(LayerTape(Tape::Fused(self.retape_fused(architecture, x, fused))))
            }
            Form::OnDevice(device) => {
                let tape = self.tape_on_device(architecture, x.clone(), device);
                Some(LayerTape(Tape::OnDevice(Box::new(tape))))
            }
            Form::Composed(_) => None,
        }
    }

    /// The gradients of the layer's parameters, in their order, and that of its input.
    ///
    /// # Shapes
    ///
    /// `upstream`, the gradient of the layer's output, `[b·t, d]`.
    ///
    /// # Panics
    ///
    /// The tape was taken with another context.
    #[must_use]
    pub fn backward(
        &self,
        architecture: &Architecture,
        tape: LayerTape,
        upstream: Tensor<2>,
        context: &SequenceContext,
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        match (tape.0, context.form()) {
            (Tape::Fused(tape), Form::Fused(fused)) => {
                self.backward_fused(architecture, tape, upstream, fused)
            }
            (Tape::OnDevice(tape), Form::OnDevice(device)) => {
                self.backward_on_device(architecture, *tape, upstream, device)
            }
            _ => panic!("a tape belongs to the context that it was taken with"),
        }
    }

    fn forward_composed(
        &self,
        architecture: &Architecture,
        x: Tensor<2>,
        shape: [usize; 2],
        context: &Composed,
    ) -> Tensor<2> {
        let epsilon = architecture.rms_norm_eps;
        let normed = rms_norm(x.clone(), self.input_layernorm.clone(), epsilon);
        let x = x + self.attention(architecture, normed, shape, context);
        let normed = rms_norm(x.clone(), self.post_attention_layernorm.clone(), epsilon);
        let gate = linear(normed.clone(), self.gate_proj.clone());
        let up = linear(normed, self.up_proj.clone());
        x + linear(swiglu(gate, up), self.down_proj.clone())
    }

    fn attention(
        &self,
        architecture: &Architecture,
        normed: Tensor<2>,
        [b, t]: [usize; 2],
        context: &Composed,
    ) -> Tensor<2> {
        let head = architecture.head_dim as usize;
        let heads = |projection: &Tensor<2>| {
            let [out, _] = projection.dims();
            linear(normed.clone(), projection.clone()).reshape([b, t, out / head, head])
        };
        let (cos, sin) = (context.cos.clone(), context.sin.clone());
        let q = rope(heads(&self.q_proj), cos.clone(), sin.clone());
        let k = rope(heads(&self.k_proj), cos, sin);
        let mixed = causal_attention(q, k, heads(&self.v_proj), &context.mask);
        linear(mixed, self.o_proj.clone())
    }
}
