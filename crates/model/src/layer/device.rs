//! A layer on a device's memory, forward and backward, written out.

use burn::tensor::{FloatDType, Tensor};
use terrace_config::Architecture;
use terrace_kernels::device::{
    attention_backward, attention_forward, gate, gate_backward, norm_apply, norm_backward,
    norm_forward, rotate,
};
use terrace_kernels::linear;
use tracing::trace_span;

use super::{Layer, attention_shape};
use crate::context::OnDevice;

/// What a layer's backward pass needs of its forward pass.
///
/// # Shapes
///
/// Per token two of the residual's size `d` (of which one is the layer's input, shared with the layer
/// below), `2·n·h + 2·k·h` of attention, `2·f` of the MLP, and `n + 2` scalars. Norms and the gated
/// product are computed again, which reads no more than keeping them would have.
#[derive(Debug)]
pub(super) struct DeviceTape {
    /// `[b·t, d]`.
    input: Tensor<2>,
    input_scales: Tensor<1>,
    /// Rotated, `[b·t, n·h]`.
    q: Tensor<2>,
    /// Rotated, `[b·t, k·h]`.
    k: Tensor<2>,
    v: Tensor<2>,
    /// What the attention gives, `[b·t, n·h]`, and its scores' log-sum-exp, `[b·t, n]`.
    mixed: Tensor<2>,
    log_sums: Tensor<2>,
    /// The residual after the attention, `[b·t, d]`.
    middle: Tensor<2>,
    middle_scales: Tensor<1>,
    /// `[b·t, f]`.
    gate: Tensor<2>,
    up: Tensor<2>,
}

/// Multiplies rows by a weight, brought to their format as long as the product takes.
fn project(x: &Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    linear(x.clone(), weight.clone().cast(x.dtype()))
}

/// The gradient of what a weight has multiplied.
fn through(slope: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let weight = weight.clone().cast(slope.dtype());
    slope.matmul(weight)
}

/// The gradient of a weight `[out, in]` that multiplied `x`, f32.
fn weight_gradient(slope: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
    slope.transpose().matmul(x).cast(FloatDType::F32)
}

impl Layer {
    /// Gives the output, `[b·t, d]`, and keeps nothing.
    pub(super) fn forward_on_device(
        &self,
        architecture: &Architecture,
        x: Tensor<2>,
        context: &OnDevice,
    ) -> Tensor<2> {
        let tape = self.tape_on_device(architecture, x, context);
        self.output_on_device(tape.middle, tape.gate, tape.up)
    }

    /// Gives the output, `[b·t, d]`, and all that the backward pass needs.
    pub(super) fn forward_taped_on_device(
        &self,
        architecture: &Architecture,
        x: Tensor<2>,
        context: &OnDevice,
    ) -> (Tensor<2>, DeviceTape) {
        let tape = self.tape_on_device(architecture, x, context);
        let output = self.output_on_device(tape.middle.clone(), tape.gate.clone(), tape.up.clone());
        (output, tape)
    }

    /// Runs the layer but for its last product.
    pub(super) fn tape_on_device(
        &self,
        architecture: &Architecture,
        x: Tensor<2>,
        context: &OnDevice,
    ) -> DeviceTape {
        let (epsilon, dtype) = (architecture.rms_norm_eps, context.products);
        let attention = trace_span!("attention").entered();
        let norm = self.input_layernorm.clone();
        let (normed, input_scales) = norm_forward(x.clone(), norm, epsilon, dtype);
        let rotated = |heads| rotate(heads, context.cos.clone(), context.sin.clone(), false);
        let (q, k) =
            (rotated(project(&normed, &self.q_proj)), rotated(project(&normed, &self.k_proj)));
        let v = project(&normed, &self.v_proj);
        let (mixed, log_sums) = attention_forward(
            q.clone(),
            k.clone(),
            v.clone(),
            &context.documents,
            attention_shape(architecture),
        );
        let attended = project(&mixed, &self.o_proj);
        let middle = x.clone() + attended.cast(x.dtype());
        drop(attention);

        let _mlp = trace_span!("mlp").entered();
        let norm = self.post_attention_layernorm.clone();
        let (normed, middle_scales) = norm_forward(middle.clone(), norm, epsilon, dtype);
        let gate = project(&normed, &self.gate_proj);
        let up = project(&normed, &self.up_proj);
        let input = x;
        DeviceTape {
            input,
            input_scales,
            q,
            k,
            v,
            mixed,
            log_sums,
            middle,
            middle_scales,
            gate,
            up,
        }
    }

    fn output_on_device(&self, middle: Tensor<2>, opened: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        let product = project(&gate(opened, up), &self.down_proj);
        let dtype = middle.dtype();
        middle + product.cast(dtype)
    }

    pub(super) fn backward_on_device(
        &self,
        architecture: &Architecture,
        tape: DeviceTape,
        upstream: Tensor<2>,
        context: &OnDevice,
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        let dtype = context.products;
        let DeviceTape { input, input_scales, q, k, v, mixed, log_sums, .. } = tape;
        let mlp = trace_span!("mlp").entered();
        let slope = upstream.clone().cast(dtype);
        let d_gated = through(slope.clone(), &self.down_proj);
        let [d_gate, d_up, gated] = gate_backward(tape.gate, tape.up, d_gated);
        let dw_down = weight_gradient(slope, gated);
        let norm = self.post_attention_layernorm.clone();
        let (middle, scales) = (tape.middle, tape.middle_scales);
        let normed = norm_apply(middle.clone(), norm.clone(), scales.clone(), dtype);
        let dw_gate = weight_gradient(d_gate.clone(), normed.clone());
        let dw_up = weight_gradient(d_up.clone(), normed);
        let d_normed = through(d_gate, &self.gate_proj) + through(d_up, &self.up_proj);
        let (residual, dw_norm2) = norm_backward(middle, norm, scales, d_normed, Some(upstream));
        drop(mlp);

        let _attention = trace_span!("attention").entered();
        let slope = residual.clone().cast(dtype);
        let dw_o = weight_gradient(slope.clone(), mixed.clone());
        let d_mixed = through(slope, &self.o_proj);
        let (documents, shape) = (&context.documents, attention_shape(architecture));
        let [dq, dk, dv] =
            attention_backward([q, k, v], mixed, log_sums, d_mixed, documents, shape);
        let turned = |heads| rotate(heads, context.cos.clone(), context.sin.clone(), true);
        let slopes = [turned(dq), turned(dk), dv];
        let norm = self.input_layernorm.clone();
        let normed = norm_apply(input.clone(), norm.clone(), input_scales.clone(), dtype);
        let [dw_q, dw_k, dw_v] =
            slopes.each_ref().map(|slope| weight_gradient(slope.clone(), normed.clone()));
        let [dq, dk, dv] = slopes;
        let d_normed =
            through(dq, &self.q_proj) + through(dk, &self.k_proj) + through(dv, &self.v_proj);
        let (dx, dw_norm1) = norm_backward(input, norm, input_scales, d_normed, Some(residual));
        (vec![dw_norm1, dw_q, dw_k, dw_v, dw_o, dw_norm2, dw_gate, dw_up, dw_down], dx)
    }
}
