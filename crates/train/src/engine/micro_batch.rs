//! A micro-batch on the device.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use terrace_data::MicroBatch;
use terrace_model::SequenceContext;

use super::Engine;

/// The tensors of a micro-batch, and what its layers share.
pub(super) struct DeviceBatch<'a> {
    host: &'a MicroBatch,
    shape: [usize; 2],
    /// `[b·t]`.
    pub(super) tokens: Tensor<1, Int>,
    /// `[b·t]`, 0 where masked.
    pub(super) targets: Tensor<1, Int>,
    /// `[b·t]`, 1 for targets that count and 0 for the others.
    pub(super) mask: Tensor<1>,
}

impl<'a> DeviceBatch<'a> {
    pub(super) fn new(host: &'a MicroBatch, device: &Device) -> Self {
        let shape = [host.rows, host.sequence_length];
        let count = shape[0] * shape[1];
        let ids = |values: Vec<i32>| Tensor::from_data(TensorData::new(values, [count]), device);
        let mask: Vec<f32> = host.targets.iter().map(|t| f32::from(u8::from(*t >= 0))).collect();
        Self {
            tokens: ids(host.tokens.clone()),
            targets: ids(host.targets.iter().map(|t| (*t).max(0)).collect()),
            mask: Tensor::from_data(TensorData::new(mask, [count]), device),
            host,
            shape,
        }
    }

    /// Rotations and documents.
    pub(super) fn context(&self, engine: &Engine) -> SequenceContext {
        let (positions, segments) = (&self.host.positions, &self.host.segments);
        let place = (&engine.device, engine.products());
        let (architecture, rope) = (&engine.architecture, &engine.rope);
        SequenceContext::with_products(architecture, rope, positions, segments, self.shape, place)
    }

    /// Sums a value per token, `[b·t]`, to one per sequence, `[b]`.
    pub(super) fn sum_rows(&self, per_token: Tensor<1>) -> Tensor<1> {
        let [b, t] = self.shape;
        per_token.reshape([b, t]).sum_dim(1).reshape([b])
    }

    /// Adds each token's upstream gradient to its row of `base`, `[v, d]`.
    pub(super) fn scatter_to_embedding(&self, base: Tensor<2>, upstream: Tensor<2>) -> Tensor<2> {
        base.select_assign(0, self.tokens.clone(), upstream, IndexingUpdateOp::Add)
    }
}
