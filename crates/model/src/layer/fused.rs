//! A layer on the host's memory, forward and backward, written out.

mod mlp;
mod weight;

use burn::tensor::{Device, Tensor};
use terrace_config::Architecture;
use terrace_kernels::host::{
    AttentionGradients, Buffer, HostTensor, attention_backward, attention_forward, norm_backward,
    norm_forward, norm_scale, rotate,
};

use tracing::trace_span;

use self::mlp::{Mlp, MlpTape};
use self::weight::Weight;
use super::{Layer, attention_shape};
use crate::context::Fused;

/// What a layer's backward pass needs of its forward pass.
///
/// # Shapes
///
/// Per token four of the residual's size `d` (the input is shared with the layer below),
/// `2·n·h + 2·k·h` of attention, `3·f` of the MLP, and `n + 2` scalars. Where a layer is run again
/// the MLP's part exists for a few rows at a time only.
#[derive(Debug)]
pub(super) struct FusedTape {
    attention: AttentionTape,
    mlp: MlpTape,
}

/// What the backward pass of norm and attention needs.
#[derive(Debug)]
struct AttentionTape {
    /// `[b·t, d]`.
    input: Tensor<2>,
    scale: Vec<f32>,
    /// `[b·t, d]`.
    normed: Buffer,
    /// Rotated, `[b·t, n·h]`.
    q: Buffer,
    /// Rotated, `[b·t, k·h]`.
    k: Buffer,
    v: Buffer,
    /// What the attention gives, `[b·t, n·h]`, and its scores' log-sum-exp, `[b·t, n]`.
    mixed: Buffer,
    log_sums: Buffer,
}

/// The gradient of a norm's weight, `[1, d]`.
fn norm_gradient(values: Vec<f32>, device: &Device) -> Tensor<2> {
    let d = values.len();
    Buffer::from_vec(values).into_tensor([1, d], device)
}

impl Layer {
    /// Gives the output, `[b·t, d]`, and keeps nothing.
    pub(super) fn forward_fused(
        &self,
        architecture: &Architecture,
        x: &Tensor<2>,
        context: &Fused,
    ) -> Tensor<2> {
        let (_, middle, scale) = self.attention_fused(architecture, x, context);
        Mlp::of(self).forward(&middle, &scale).into_tensor(x.dims(), &x.device())
    }

    /// Gives the output, `[b·t, d]`, and all that the backward pass needs.
    pub(super) fn forward_taped_fused(
        &self,
        architecture: &Architecture,
        x: &Tensor<2>,
        context: &Fused,
    ) -> (Tensor<2>, FusedTape) {
        let (attention, middle, scale) = self.attention_fused(architecture, x, context);
        let (output, mlp) =
            trace_span!("mlp").in_scope(|| Mlp::of(self).forward_taped(middle, scale));
        (output.into_tensor(x.dims(), &x.device()), FusedTape { attention, mlp })
    }

    /// Runs the layer again, as far as its backward pass needs: its output is known already.
    pub(super) fn retape_fused(
        &self,
        architecture: &Architecture,
        x: &Tensor<2>,
        context: &Fused,
    ) -> FusedTape {
        let (attention, middle, scale) = self.attention_fused(architecture, x, context);
        FusedTape { attention, mlp: MlpTape::to_run_again(middle, scale) }
    }

    /// Gives the residual after the attention, `[b·t, d]`, and its norm's scale, `[b·t]`.
    fn attention_fused(
        &self,
        architecture: &Architecture,
        x: &Tensor<2>,
        context: &Fused,
    ) -> (AttentionTape, Buffer, Vec<f32>) {
        let _attention = trace_span!("attention").entered();
        let (d, epsilon) = (x.dims()[1], architecture.rms_norm_eps);
        let input = HostTensor::new(x.clone());
        let scale = norm_scale(&input, d, epsilon);
        let normed = norm_forward(&input, &scale, &HostTensor::new(self.input_layernorm.clone()));
        let mut q = Weight::new(&self.q_proj).project(&normed);
        let mut k = Weight::new(&self.k_proj).project(&normed);
        let v = Weight::new(&self.v_proj).project(&normed);
        rotate(&mut q, &context.rotations, false);
        rotate(&mut k, &context.rotations, false);
        let heads = attention_shape(architecture);
        let (mixed, log_sums) = trace_span!("scores")
            .in_scope(|| attention_forward(&q, &k, &v, &context.documents, heads));
        let mut middle = Buffer::any(input.len());
        middle.copy_from_slice(&input);
        Weight::new(&self.o_proj).project_to(&mixed, &mut middle, true);
        let middle_scale = norm_scale(&middle, d, epsilon);
        let tape = AttentionTape { input: x.clone(), scale, normed, q, k, v, mixed, log_sums };
        (tape, middle, middle_scale)
    }

    pub(super) fn backward_fused(
        &self,
        architecture: &Architecture,
        tape: FusedTape,
        upstream: Tensor<2>,
        context: &Fused,
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        let (shape, device) = (upstream.dims(), upstream.device());
        // The gradient of the residual stream, changed in place all the way down.
        let mut residual = HostTensor::new(upstream).into_buffer();
        let [dw_norm2, dw_gate, dw_up, dw_down] = trace_span!("mlp")
            .in_scope(|| Mlp::of(self).backward(tape.mlp, &mut residual, &device));

        let _attention = trace_span!("attention").entered();
        let AttentionTape { input, scale, normed, q, k, v, mixed, log_sums } = tape.attention;
        let o_proj = Weight::new(&self.o_proj);
        let dw_o = o_proj.gradient(&residual, &mixed);
        let mut d_mixed = Buffer::any(mixed.len());
        o_proj.upstream(&residual, &mut d_mixed, false);
        let heads = attention_shape(architecture);
        let documents = &context.documents;
        let mut gradients = trace_span!("scores").in_scope(|| {
            attention_backward(&q, &k, &v, &mixed, &log_sums, &d_mixed, documents, heads)
        });
        drop((q, k, v, mixed, log_sums, d_mixed));
        rotate(&mut gradients.q, &context.rotations, true);
        rotate(&mut gradients.k, &context.rotations, true);
        let (normed, [dw_q, dw_k, dw_v]) = self.projections_backward(normed, &gradients);
        let input = HostTensor::new(input);
        let weight = HostTensor::new(self.input_layernorm.clone());
        let dw_norm1 = norm_backward(&input, &scale, &weight, &normed, &mut residual);
        input.recycle();
        let dw_norm1 = norm_gradient(dw_norm1, &device);
        let parameters = vec![dw_norm1, dw_q, dw_k, dw_v, dw_o, dw_norm2, dw_gate, dw_up, dw_down];
        (parameters, residual.into_tensor(shape, &device))
    }

    /// The gradient of the norm's output, in its place, and those of queries, keys and values.
    fn projections_backward(
        &self,
        mut normed: Buffer,
        gradients: &AttentionGradients,
    ) -> (Buffer, [Tensor<2>; 3]) {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj].map(Weight::new);
        let slopes = [&gradients.q, &gradients.k, &gradients.v];
        let weights = std::array::from_fn(|i| projections[i].gradient(slopes[i], &normed));
        for (i, (projection, slope)) in projections.iter().zip(slopes).enumerate() {
            projection.upstream(slope, &mut normed, i > 0);
        }
        (normed, weights)
    }
}
