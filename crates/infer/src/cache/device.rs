//! The cache in a device's memory, by the tensor library's own operations.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor};

use super::{CacheShape, Span};

/// Keys and values, each `[1, k, length, h]` for every layer and slot.
pub(crate) struct DeviceCache {
    shape: CacheShape,
    /// By layer, then by slot.
    layers: Vec<Vec<[Tensor<4>; 2]>>,
}

impl DeviceCache {
    pub(super) fn new(shape: CacheShape, device: &Device) -> Self {
        let zeros =
            || Tensor::<4>::zeros([1, shape.kv_heads, shape.length, shape.head_dim], device);
        let layer = || (0..shape.slots).map(|_| [zeros(), zeros()]).collect();
        Self { shape, layers: (0..shape.layers).map(|_| layer()).collect() }
    }

    pub(super) fn attend(
        &mut self,
        layer: usize,
        spans: &[Span],
        q: &Tensor<2>,
        k: &Tensor<2>,
        v: &Tensor<2>,
    ) -> Tensor<2> {
        let mut row = 0;
        let mut mixed = Vec::with_capacity(spans.len());
        for span in spans {
            let rows = |x: &Tensor<2>| x.clone().narrow(0, row, span.count);
            let (q, k, v) = (rows(q), rows(k), rows(v));
            let [keys, values] = &mut self.layers[layer][span.slot];
            write(self.shape, keys, span, k);
            write(self.shape, values, span, v);
            mixed.push(attend_span(self.shape, span, q, keys.clone(), values.clone()));
            row += span.count;
        }
        Tensor::cat(mixed, 0)
    }

    pub(super) fn copy(&mut self, from: usize, to: usize, count: usize) {
        let shape = self.shape;
        for slots in &mut self.layers {
            let donors = slots[from].clone();
            for (target, donor) in slots[to].iter_mut().zip(donors) {
                let rows = donor.narrow(2, 0, count);
                let places = [0..1, 0..shape.kv_heads, 0..count, 0..shape.head_dim];
                change(target, |x| x.slice_assign(places, rows));
            }
        }
    }
}

/// Changes a tensor without anybody else holding it meanwhile, so that it can be done in place.
fn change(tensor: &mut Tensor<4>, f: impl FnOnce(Tensor<4>) -> Tensor<4>) {
    let empty = Tensor::empty([1, 1, 1, 1], &tensor.device());
    *tensor = f(std::mem::replace(tensor, empty));
}

fn write(shape: CacheShape, cache: &mut Tensor<4>, span: &Span, rows: Tensor<2>) {
    let CacheShape { kv_heads, head_dim, .. } = shape;
    let rows = rows.reshape([1, span.count, kv_heads, head_dim]).swap_dims(1, 2);
    let places = span.start..span.start + span.count;
    change(cache, |x| x.slice_assign([0..1, 0..kv_heads, places, 0..head_dim], rows));
}

/// The queries of a group are stacked along the position axis: one product serves them all.
fn attend_span(
    shape: CacheShape,
    span: &Span,
    q: Tensor<2>,
    keys: Tensor<4>,
    values: Tensor<4>,
) -> Tensor<2> {
    let CacheShape { heads, kv_heads, head_dim: h, .. } = shape;
    let (count, width, group) = (span.count, span.start + span.count, heads / kv_heads);
    let q = (q * (h as f64).powf(-0.5)).reshape([1, count, heads, h]).swap_dims(1, 2);
    let q = q.reshape([1, kv_heads, group * count, h]);
    let scores = q.matmul(keys.narrow(2, 0, width).swap_dims(2, 3));
    let scores = if count == 1 {
        scores
    } else {
        let future =
            Tensor::<2, Bool>::tril_mask([count, width], span.start as i64, &scores.device());
        let future = future.reshape([1, 1, count, width]).repeat_dim(2, group);
        scores.mask_fill(future.expand([1, kv_heads, group * count, width]), -1e30)
    };
    let mixed = softmax(scores, 3).matmul(values.narrow(2, 0, width));
    mixed.reshape([1, heads, count, h]).swap_dims(1, 2).reshape([count, heads * h])
}
