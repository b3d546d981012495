//! Causal attention within documents.

use burn::tensor::{Bool, DType, Device, FloatDType, Int, Tensor, TensorData};

use super::kernel_or;
use crate::host::AttentionShape;

/// Where each position's document begins and ends: what it may see, and what may see it.
#[derive(Clone, Debug)]
pub struct DeviceDocuments {
    /// The first position of the document, `[b, t]`, i32.
    starts: Tensor<2, Int>,
    /// The position behind its last, `[b, t]`, i32.
    #[cfg_attr(
        not(feature = "cube"),
        expect(dead_code, reason = "only the kernels skip tiles by it")
    )]
    ends: Tensor<2, Int>,
}

impl DeviceDocuments {
    /// Reads the documents off the number of each position's document.
    ///
    /// # Shapes
    ///
    /// `segments` `[b, t]` row-major.
    ///
    /// # Panics
    ///
    /// A document's positions do not lie together.
    #[must_use]
    pub fn new(segments: &[i32], [b, t]: [usize; 2], device: &Device) -> Self {
        assert_eq!(segments.len(), b * t, "one document number for each position");
        let mut starts = Vec::with_capacity(b * t);
        let mut ends = Vec::with_capacity(b * t);
        for row in segments.chunks_exact(t.max(1)) {
            let mut start = 0;
            for document in row.chunk_by(|a, b| a == b) {
                let next = row.get(start + document.len());
                assert!(next.is_none_or(|next| document[0] < *next), "numbered as they come");
                let end = start + document.len();
                starts.resize(starts.len() + document.len(), start as i32);
                ends.resize(ends.len() + document.len(), end as i32);
                start = end;
            }
        }
        let tensor =
            |values| Tensor::from_data(TensorData::new(values, [b, t]), (device, DType::I32));
        Self { starts: tensor(starts), ends: tensor(ends) }
    }

    /// The extents `[b, t]`.
    fn shape(&self) -> [usize; 2] {
        self.starts.dims()
    }
}

/// Scaled dot-product attention; gives the mixed values, of the element type of `q`, and the
/// log-sum-exp of each query's scores.
///
/// A query sees the keys of its document up to its own position; tiles of other keys are not visited,
/// and the kernels keep no score beyond a tile.
///
/// # Shapes
///
/// `q` `[b·t, n·h]`, `k` and `v` `[b·t, k·h]`; gives `[b·t, n·h]` and `[b·t, n]`. Query head `i` uses
/// key/value head `i / (n/k)`.
#[must_use]
pub fn attention_forward(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    documents: &DeviceDocuments,
    shape: AttentionShape,
) -> (Tensor<2>, Tensor<2>) {
    kernel_or!(
        super::has_kernels(&q.device(), shape.head_dim),
        crate::cube::attention_forward([q, k, v], documents.starts.clone(), shape),
        composed_forward(q, k, v, documents, shape)
    )
}

/// The gradients of queries, keys and values, given what the forward pass took and gave and the
/// gradient of the mixed values.
///
/// # Shapes
///
/// As in the forward pass.
///
// NUMERICS: the kernels sum in f32 and without atomic operations: each sum belongs to one group of
// units, which takes its terms in one order.
#[must_use]
pub fn attention_backward(
    [q, k, v]: [Tensor<2>; 3],
    mixed: Tensor<2>,
    log_sums: Tensor<2>,
    upstream: Tensor<2>,
    documents: &DeviceDocuments,
    shape: AttentionShape,
) -> [Tensor<2>; 3] {
    kernel_or!(
        super::has_kernels(&q.device(), shape.head_dim),
        crate::cube::attention_backward(
            [q, k, v],
            [mixed, log_sums, upstream],
            [documents.starts.clone(), documents.ends.clone()],
            shape,
        ),
        composed_backward([q, k, v], mixed, log_sums, upstream, documents, shape)
    )
}

/// The extents of the composed form: the queries of a group are stacked along the positions, so that
/// one product serves them all.
#[derive(Clone, Copy)]
struct Stacked {
    b: usize,
    t: usize,
    group: usize,
    shape: AttentionShape,
}

impl Stacked {
    fn new(documents: &DeviceDocuments, shape: AttentionShape) -> Self {
        let [b, t] = documents.shape();
        Self { b, t, group: shape.heads / shape.kv_heads, shape }
    }

    /// `[b·t, n·w]` to `[b, k, group·t, w]` in f32.
    fn queries(self, x: Tensor<2>) -> Tensor<4> {
        let Self { b, t, group, shape } = self;
        let width = x.dims()[1] / shape.heads;
        let x = x.cast(FloatDType::F32).reshape([b, t, shape.heads, width]).swap_dims(1, 2);
        x.reshape([b, shape.kv_heads, group * t, width])
    }

    /// `[b·t, k·h]` to `[b, k, t, h]` in f32.
    fn keys(self, x: Tensor<2>) -> Tensor<4> {
        let Self { b, t, shape, .. } = self;
        let x = x.cast(FloatDType::F32).reshape([b, t, shape.kv_heads, shape.head_dim]);
        x.swap_dims(1, 2)
    }

    /// Back from [`queries`](Self::queries).
    fn of_queries(self, x: Tensor<4>, dtype: DType) -> Tensor<2> {
        let Self { b, t, shape, .. } = self;
        let width = x.dims()[3];
        let x = x.reshape([b, shape.heads, t, width]).swap_dims(1, 2);
        x.reshape([b * t, shape.heads * width]).cast(dtype)
    }

    /// Back from [`keys`](Self::keys).
    fn of_keys(self, x: Tensor<4>, dtype: DType) -> Tensor<2> {
        let Self { b, t, shape, .. } = self;
        x.swap_dims(1, 2).reshape([b * t, shape.kv_heads * shape.head_dim]).cast(dtype)
    }

    /// The scaled scores, and where they do not count, `[b, k, group·t, t]`.
    fn scores(
        self,
        q: Tensor<4>,
        k: Tensor<4>,
        documents: &DeviceDocuments,
    ) -> (Tensor<4>, Tensor<4, Bool>) {
        let Self { b, t, group, shape } = self;
        let device = q.device();
        let keys = Tensor::<1, Int>::arange(0..t as i64, (&device, DType::I32));
        let queries = keys.clone().reshape([1, 1, t, 1]).expand([b, 1, t, t]);
        let keys = keys.reshape([1, 1, 1, t]).expand([b, 1, t, t]);
        let starts = documents.starts.clone().reshape([b, 1, t, 1]).expand([b, 1, t, t]);
        let hidden = keys.clone().lower(starts).bool_or(keys.greater(queries));
        let hidden = hidden.repeat_dim(2, group).expand([b, shape.kv_heads, group * t, t]);
        let scores = q.matmul(k.swap_dims(2, 3)) * (shape.head_dim as f64).powf(-0.5);
        (scores, hidden)
    }
}

fn composed_forward(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    documents: &DeviceDocuments,
    shape: AttentionShape,
) -> (Tensor<2>, Tensor<2>) {
    let (stacked, dtype) = (Stacked::new(documents, shape), q.dtype());
    let (scores, hidden) = stacked.scores(stacked.queries(q), stacked.keys(k), documents);
    let scores = scores.mask_fill(hidden, -1e30);
    let top = scores.clone().max_dim(3);
    let exponentials = (scores - top.clone()).exp();
    let sums = exponentials.clone().sum_dim(3);
    let mixed = (exponentials / sums.clone()).matmul(stacked.keys(v));
    let log_sums = stacked.of_queries(top + sums.log(), DType::F32);
    (stacked.of_queries(mixed, dtype), log_sums)
}

fn composed_backward(
    [q, k, v]: [Tensor<2>; 3],
    mixed: Tensor<2>,
    log_sums: Tensor<2>,
    upstream: Tensor<2>,
    documents: &DeviceDocuments,
    shape: AttentionShape,
) -> [Tensor<2>; 3] {
    let (stacked, dtype) = (Stacked::new(documents, shape), q.dtype());
    let (q, k, v) = (stacked.queries(q), stacked.keys(k), stacked.keys(v));
    let [mixed, log_sums, upstream] = [mixed, log_sums, upstream].map(|x| stacked.queries(x));
    let (scores, hidden) = stacked.scores(q.clone(), k.clone(), documents);
    let weights = (scores - log_sums).exp().mask_fill(hidden, 0.0);
    let dv = weights.clone().swap_dims(2, 3).matmul(upstream.clone());
    let delta = (upstream.clone() * mixed).sum_dim(3);
    let values = upstream.matmul(v.swap_dims(2, 3));
    let slopes = weights * (values - delta) * (shape.head_dim as f64).powf(-0.5);
    let dq = slopes.clone().matmul(k);
    let dk = slopes.swap_dims(2, 3).matmul(q);
    [stacked.of_queries(dq, dtype), stacked.of_keys(dk, dtype), stacked.of_keys(dv, dtype)]
}
