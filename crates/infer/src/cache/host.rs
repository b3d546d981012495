//! The cache in the host's memory.

use burn::tensor::Tensor;
use terrace_kernels::host::{AttentionShape, CachedSpan, HostTensor, cached_attention};

use super::{CacheShape, Span};

/// Keys and values, each `[slots, k, length, h]` for every layer.
pub(crate) struct HostCache {
    shape: CacheShape,
    layers: Vec<[Vec<f32>; 2]>,
}

impl HostCache {
    pub(super) fn new(shape: CacheShape) -> Self {
        let size = shape.slots * shape.kv_heads * shape.length * shape.head_dim;
        // Zeros that nobody touches take no memory yet on most systems.
        let layers = (0..shape.layers).map(|_| [vec![0.0; size], vec![0.0; size]]).collect();
        Self { shape, layers }
    }

    pub(super) fn attend(
        &mut self,
        layer: usize,
        spans: &[Span],
        q: Tensor<2>,
        k: Tensor<2>,
        v: Tensor<2>,
    ) -> Tensor<2> {
        let (device, dims) = (q.device(), q.dims());
        let (q, k, v) = (HostTensor::new(q), HostTensor::new(k), HostTensor::new(v));
        let shape = self.shape;
        let [keys, values] = &mut self.layers[layer];
        write(shape, keys, spans, &k);
        write(shape, values, spans, &v);
        let size = shape.kv_heads * shape.length * shape.head_dim;
        let spans: Vec<CachedSpan<'_>> = spans
            .iter()
            .map(|span| CachedSpan {
                before: span.start,
                count: span.count,
                keys: &keys[span.slot * size..][..size],
                values: &values[span.slot * size..][..size],
            })
            .collect();
        let CacheShape { heads, kv_heads, head_dim, .. } = shape;
        cached_attention(&q, &spans, AttentionShape { heads, kv_heads, head_dim })
            .into_tensor(dims, &device)
    }

    pub(super) fn copy(&mut self, from: usize, to: usize, count: usize) {
        let CacheShape { kv_heads, length, head_dim, .. } = self.shape;
        for tensor in self.layers.iter_mut().flatten() {
            for head in 0..kv_heads {
                let place = |slot: usize| (slot * kv_heads + head) * length * head_dim;
                tensor.copy_within(place(from)..place(from) + count * head_dim, place(to));
            }
        }
    }
}

/// Puts rows `[rows, k·h]` in their places.
fn write(shape: CacheShape, cache: &mut [f32], spans: &[Span], rows: &[f32]) {
    let h = shape.head_dim;
    let mut rows = rows.chunks_exact(shape.kv_heads * h);
    for span in spans {
        for position in span.start..span.start + span.count {
            let row = rows.next().expect("one row for each new position");
            for (head, values) in row.chunks_exact(h).enumerate() {
                let place = (span.slot * shape.kv_heads + head) * shape.length + position;
                cache[place * h..][..h].copy_from_slice(values);
            }
        }
    }
}
