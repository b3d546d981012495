//! A layer on the host's memory, forward and backward, written out.

use burn::tensor::{Device, Tensor};
use terrace_config::Architecture;
use terrace_kernels::host::{
    AttentionGradients, AttentionShape, Buffer, HostTensor, Matrix, MatrixMut, Threads,
    attention_backward, attention_forward, gate_backward, gate_forward, multiply, norm_backward,
    norm_forward, norm_scale, rotate,
};

use super::Layer;
use crate::context::Fused;

/// What a layer's backward pass needs of its forward pass; the rest is cheap enough to do again.
///
/// # Shapes
///
/// Per token two residuals `d` (the input is shared with the layer below), `2·n·h + 2·k·h` of
/// attention, `2·f` of the MLP, and `n + 2` scalars.
#[derive(Debug)]
pub struct LayerTape {
    /// `[b·t, d]`.
    input: Tensor<2>,
    input_scale: Vec<f32>,
    /// Rotated, `[b·t, n·h]`.
    q: Buffer,
    /// Rotated, `[b·t, k·h]`.
    k: Buffer,
    v: Buffer,
    /// What the attention gives, `[b·t, n·h]`, and its scores' log-sum-exp, `[b·t, n]`.
    mixed: Buffer,
    log_sums: Buffer,
    /// The residual after the attention, `[b·t, d]`.
    middle: Buffer,
    middle_scale: Vec<f32>,
    /// `[b·t, f]`.
    gate: Buffer,
    up: Buffer,
}

/// A weight matrix, `[out, in]`.
struct Weight {
    values: HostTensor,
    shape: [usize; 2],
    device: Device,
}

impl Weight {
    fn new(tensor: &Tensor<2>) -> Self {
        let (shape, device) = (tensor.dims(), tensor.device());
        Self { values: HostTensor::new(tensor.clone()), shape, device }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.values, self.shape[0], self.shape[1])
    }

    /// `x · wᵀ`.
    fn project(&self, x: &[f32]) -> Buffer {
        let mut y = Buffer::any(self.rows(x, 1) * self.shape[0]);
        self.project_to(x, &mut y, false);
        y
    }

    /// Writes `x · wᵀ` to `y`, or adds it.
    fn project_to(&self, x: &[f32], y: &mut [f32], accumulate: bool) {
        let (rows, [out, inner]) = (self.rows(x, 1), self.shape);
        let (y, x) = (MatrixMut::new(y, rows, out), Matrix::new(x, rows, inner));
        multiply(y, accumulate, x, self.matrix().transposed(), 1.0, Threads::All);
    }

    /// The gradient of the weights, `dyᵀ · x`.
    fn gradient(&self, dy: &[f32], x: &[f32]) -> Tensor<2> {
        let (rows, [out, inner]) = (self.rows(x, 1), self.shape);
        let mut gradient = Buffer::any(out * inner);
        multiply(
            MatrixMut::new(&mut gradient, out, inner),
            false,
            Matrix::new(dy, rows, out).transposed(),
            Matrix::new(x, rows, inner),
            1.0,
            Threads::All,
        );
        gradient.into_tensor(self.shape, &self.device)
    }

    /// Writes the gradient of the input, `dy · w`, to `dx`, or adds it.
    fn upstream(&self, dy: &[f32], dx: &mut [f32], accumulate: bool) {
        let (rows, [out, inner]) = (self.rows(dy, 0), self.shape);
        let (dx, dy) = (MatrixMut::new(dx, rows, inner), Matrix::new(dy, rows, out));
        multiply(dx, accumulate, dy, self.matrix(), 1.0, Threads::All);
    }

    fn rows(&self, values: &[f32], extent: usize) -> usize {
        values.len() / self.shape[extent]
    }
}

fn attention_shape(architecture: &Architecture) -> AttentionShape {
    AttentionShape {
        heads: architecture.num_attention_heads as usize,
        kv_heads: architecture.num_key_value_heads as usize,
        head_dim: architecture.head_dim as usize,
    }
}

/// The gradient of a norm's weight, `[1, d]`.
fn norm_gradient(values: Vec<f32>, device: &Device) -> Tensor<2> {
    let d = values.len();
    Buffer::from_vec(values).into_tensor([1, d], device)
}

impl Layer {
    pub(super) fn forward_fused(
        &self,
        architecture: &Architecture,
        x: &Tensor<2>,
        context: &Fused,
    ) -> (Tensor<2>, LayerTape) {
        let (shape, device) = (x.dims(), x.device());
        let (d, epsilon) = (shape[1], architecture.rms_norm_eps);
        let input = HostTensor::new(x.clone());
        let input_scale = norm_scale(&input, d, epsilon);
        let normed =
            norm_forward(&input, &input_scale, &HostTensor::new(self.input_layernorm.clone()));
        let mut q = Weight::new(&self.q_proj).project(&normed);
        let mut k = Weight::new(&self.k_proj).project(&normed);
        let v = Weight::new(&self.v_proj).project(&normed);
        drop(normed);
        rotate(&mut q, &context.rotations, false);
        rotate(&mut k, &context.rotations, false);
        let heads = attention_shape(architecture);
        let (mixed, log_sums) = attention_forward(&q, &k, &v, &context.documents, heads);
        let mut middle = Buffer::any(input.len());
        middle.copy_from_slice(&input);
        Weight::new(&self.o_proj).project_to(&mixed, &mut middle, true);

        let middle_scale = norm_scale(&middle, d, epsilon);
        let weight = HostTensor::new(self.post_attention_layernorm.clone());
        let normed = norm_forward(&middle, &middle_scale, &weight);
        let gate = Weight::new(&self.gate_proj).project(&normed);
        let up = Weight::new(&self.up_proj).project(&normed);
        drop(normed);
        let mut output = Buffer::any(input.len());
        output.copy_from_slice(&middle);
        let product = gate_forward(&gate, &up);
        Weight::new(&self.down_proj).project_to(&product, &mut output, true);
        let tape = LayerTape {
            input: x.clone(),
            input_scale,
            q,
            k,
            v,
            mixed,
            log_sums,
            middle,
            middle_scale,
            gate,
            up,
        };
        (output.into_tensor(shape, &device), tape)
    }

    pub(super) fn backward_fused(
        &self,
        architecture: &Architecture,
        tape: LayerTape,
        upstream: Tensor<2>,
        context: &Fused,
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        let (shape, device) = (upstream.dims(), upstream.device());
        let LayerTape { input, input_scale, q, k, v, mixed, log_sums, middle, .. } = tape;
        let LayerTape { middle_scale, gate, up, .. } = tape;
        // The gradient of the residual stream, changed in place all the way down.
        let mut residual = HostTensor::new(upstream).into_buffer();
        let [dw_norm2, dw_gate, dw_up, dw_down] =
            self.mlp_backward(&middle, &middle_scale, gate, up, &mut residual, &device);
        drop(middle);

        let o_proj = Weight::new(&self.o_proj);
        let dw_o = o_proj.gradient(&residual, &mixed);
        let mut d_mixed = Buffer::any(mixed.len());
        o_proj.upstream(&residual, &mut d_mixed, false);
        let heads = attention_shape(architecture);
        let mut gradients =
            attention_backward(&q, &k, &v, &mixed, &log_sums, &d_mixed, &context.documents, heads);
        drop((q, k, v, mixed, log_sums, d_mixed));
        rotate(&mut gradients.q, &context.rotations, true);
        rotate(&mut gradients.k, &context.rotations, true);
        let input = HostTensor::new(input);
        let [dw_norm1, dw_q, dw_k, dw_v] =
            self.projections_backward(&input, &input_scale, gradients, &mut residual, &device);
        input.recycle();
        let parameters = vec![dw_norm1, dw_q, dw_k, dw_v, dw_o, dw_norm2, dw_gate, dw_up, dw_down];
        (parameters, residual.into_tensor(shape, &device))
    }

    /// The gradients of norm, gate, up and down; adds its own to the residual's.
    fn mlp_backward(
        &self,
        middle: &[f32],
        scale: &[f32],
        mut gate: Buffer,
        mut up: Buffer,
        residual: &mut [f32],
        device: &Device,
    ) -> [Tensor<2>; 4] {
        let down_proj = Weight::new(&self.down_proj);
        let mut product = gate_forward(&gate, &up);
        let dw_down = down_proj.gradient(residual, &product);
        down_proj.upstream(residual, &mut product, false);
        gate_backward(&mut gate, &mut up, &product);
        drop(product);

        let weight = HostTensor::new(self.post_attention_layernorm.clone());
        let mut normed = norm_forward(middle, scale, &weight);
        let (gate_proj, up_proj) = (Weight::new(&self.gate_proj), Weight::new(&self.up_proj));
        let dw_gate = gate_proj.gradient(&gate, &normed);
        let dw_up = up_proj.gradient(&up, &normed);
        gate_proj.upstream(&gate, &mut normed, false);
        up_proj.upstream(&up, &mut normed, true);
        let dw_norm = norm_backward(middle, scale, &weight, &normed, residual);
        [norm_gradient(dw_norm, device), dw_gate, dw_up, dw_down]
    }

    /// The gradients of norm, queries, keys and values; adds its own to the residual's.
    fn projections_backward(
        &self,
        input: &[f32],
        scale: &[f32],
        gradients: AttentionGradients,
        residual: &mut [f32],
        device: &Device,
    ) -> [Tensor<2>; 4] {
        let weight = HostTensor::new(self.input_layernorm.clone());
        let mut normed = norm_forward(input, scale, &weight);
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj].map(Weight::new);
        let slopes = [&gradients.q, &gradients.k, &gradients.v];
        let [dw_q, dw_k, dw_v] =
            std::array::from_fn(|i| projections[i].gradient(slopes[i], &normed));
        for (i, (projection, slope)) in projections.iter().zip(slopes).enumerate() {
            projection.upstream(slope, &mut normed, i > 0);
        }
        let dw_norm = norm_backward(input, scale, &weight, &normed, residual);
        [norm_gradient(dw_norm, device), dw_q, dw_k, dw_v]
    }
}
