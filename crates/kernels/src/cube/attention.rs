//! Causal attention within documents by tiles.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::kernels::{
    SIDE, Tile, attention_deltas_kernel, attention_forward_kernel, attention_keys_kernel,
    attention_queries_kernel,
};
use super::launch::{cube_dim, element, empty, hardware, runs, spread_elements};
use crate::host::AttentionShape;

/// The shared memory that a cube takes at most: more would need a launch of another kind on CUDA.
const MOST_SHARED: usize = 48 * 1024;

/// The vectors of four that a unit sums up at most: they have to stay in registers.
const MOST_SUMS: usize = 16;

/// The passes, which differ in what their cubes keep.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    Queries,
    Keys,
}

impl Pass {
    const ALL: [Self; 3] = [Self::Forward, Self::Queries, Self::Keys];

    /// The largest tile that a cube has room for.
    fn tile(self, shared: usize, head_dim: usize) -> Option<Tile> {
        // NUMERICS: the order of the sums follows from the tile, hence from the device's memory.
        let sizes = match self {
            Self::Forward | Self::Queries => [(4, 4), (4, 2), (2, 2), (2, 1), (1, 1)],
            Self::Keys => [(2, 4), (1, 4), (2, 2), (1, 2), (1, 1)],
        };
        let tiles = sizes.map(|(queries, keys)| Tile { queries, keys, vectors: head_dim / 4 });
        let fits = |tile: &Tile| {
            let chunks = tile.vectors.div_ceil(SIDE);
            let (bytes, sums) = match self {
                Self::Forward => (tile.shared_bytes(1, 1, 1), tile.queries * chunks),
                Self::Queries => (tile.shared_bytes(2, 1, 1), tile.queries * chunks),
                Self::Keys => (tile.shared_bytes(2, 2, 2), 2 * tile.keys * chunks),
            };
            bytes <= shared.min(MOST_SHARED) && sums <= MOST_SUMS
        };
        tiles.into_iter().find(fits)
    }
}

/// Whether the kernels can take heads of this width on a device.
pub(crate) fn attends(device: &Device, head_dim: usize) -> bool {
    let shared = hardware(device).map_or(0, |hardware| hardware.max_shared_memory_size);
    runs(device)
        && head_dim.is_multiple_of(4)
        && Pass::ALL.iter().all(|pass| pass.tile(shared, head_dim).is_some())
}

/// As [`crate::device::attention_forward`].
pub(crate) fn attention_forward(
    [q, k, v]: [Tensor<2>; 3],
    starts: Tensor<2, Int>,
    shape: AttentionShape,
) -> (Tensor<2>, Tensor<2>) {
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    let (mixed, log_sums) =
        <Dispatch as Attention>::attention_forward(q, k, v, starts.into_dispatch(), shape);
    (Tensor::from_dispatch(mixed), Tensor::from_dispatch(log_sums))
}

/// As [`crate::device::attention_backward`].
pub(crate) fn attention_backward(
    [q, k, v]: [Tensor<2>; 3],
    [mixed, log_sums, upstream]: [Tensor<2>; 3],
    [starts, ends]: [Tensor<2, Int>; 2],
    shape: AttentionShape,
) -> [Tensor<2>; 3] {
    let (dq, dk, dv) = <Dispatch as Attention>::attention_backward(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        mixed.into_dispatch(),
        log_sums.into_dispatch(),
        upstream.into_dispatch(),
        starts.into_dispatch(),
        ends.into_dispatch(),
        shape,
    );
    [Tensor::from_dispatch(dq), Tensor::from_dispatch(dk), Tensor::from_dispatch(dv)]
}

/// The backends that have the kernels.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Attention: Backend {
    /// `q` `[b·t, n·h]`, `k` and `v` `[b·t, k·h]`, `starts` `[b, t]`; gives `[b·t, n·h]` and `[b·t, n]`.
    #[fusion(meta = forward_outputs)]
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        starts: IntTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// What the forward pass took and gave, the gradient of what it gave, `starts` and `ends`; gives the
    /// gradients of `q`, `k` and `v`.
    #[fusion(meta = backward_outputs)]
    fn attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mixed: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        starts: IntTensor<Self>,
        ends: IntTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn forward_outputs(
    q: &TensorSpec,
    _k: &TensorSpec,
    _v: &TensorSpec,
    _starts: &TensorSpec,
    shape: &AttentionShape,
) -> (TensorSpec, TensorSpec) {
    (q.clone(), TensorSpec::new(Shape::new([q.shape[0], shape.heads]), DType::F32))
}

#[expect(clippy::too_many_arguments, reason = "as the operation has them")]
fn backward_outputs(
    q: &TensorSpec,
    k: &TensorSpec,
    v: &TensorSpec,
    _mixed: &TensorSpec,
    _log_sums: &TensorSpec,
    _upstream: &TensorSpec,
    _starts: &TensorSpec,
    _ends: &TensorSpec,
    _shape: &AttentionShape,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (q.clone(), k.clone(), v.clone())
}

/// What the launches of one attention have in common.
struct Launch {
    shape: AttentionShape,
    b: usize,
    t: usize,
    shared: usize,
}

impl Launch {
    fn new(q: &CubeTensor, starts: &CubeTensor, shape: AttentionShape) -> Self {
        let [b, t] = starts.meta.shape().dims();
        let shared = q.client.properties().hardware.max_shared_memory_size;
        let elements = b * t * shape.heads * shape.head_dim;
        assert!(u32::try_from(elements).is_ok(), "kernels count elements in 32 bits");
        Self { shape, b, t, shared }
    }

    fn tile(&self, pass: Pass) -> Tile {
        pass.tile(self.shared, self.shape.head_dim).expect("asked before")
    }

    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    fn scale(&self) -> f32 {
        (self.shape.head_dim as f64).powf(-0.5) as f32
    }

    /// A cube for each tile, head and sequence.
    fn cubes(&self, tile_positions: usize, heads: usize) -> CubeCount {
        let tiles = self.t.div_ceil(tile_positions);
        CubeCount::Static(tiles as u32, heads as u32, self.b as u32)
    }
}

/// The units of a cube.
fn square() -> CubeDim {
    CubeDim::new_2d(SIDE as u32, SIDE as u32)
}

impl Attention for CubeBackend {
    fn attention_forward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        starts: CubeTensor,
        shape: AttentionShape,
    ) -> (CubeTensor, CubeTensor) {
        let [q, k, v, starts] = [q, k, v, starts].map(into_contiguous);
        let launch = Launch::new(&q, &starts, shape);
        let tile = launch.tile(Pass::Forward);
        let tokens = launch.b * launch.t;
        let mixed = empty(&q, [tokens, shape.heads * shape.head_dim], q.dtype);
        let log_sums = empty(&q, [tokens, shape.heads], DType::F32);
        let client = q.client.clone();
        let elements = element(q.dtype);
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: the tensors are contiguous and of the extents that `Attention` names. Positions
        // beyond `t` are neither read nor written: rows of a tile are limited by what is left of the
        // sequence, and single queries are clamped to its last; `starts` is below `t`.
        unsafe {
            attention_forward_kernel::launch_unchecked(
                &client,
                launch.cubes(SIDE * tile.queries, shape.heads),
                square(),
                q.into_tensor_arg(),
                k.into_tensor_arg(),
                v.into_tensor_arg(),
                starts.into_tensor_arg(),
                mixed.clone().into_tensor_arg(),
                log_sums.clone().into_tensor_arg(),
                launch.t,
                launch.group(),
                launch.scale(),
                tile,
                elements,
            );
        }
        (mixed, log_sums)
    }

    fn attention_backward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        mixed: CubeTensor,
        log_sums: CubeTensor,
        upstream: CubeTensor,
        starts: CubeTensor,
        ends: CubeTensor,
        shape: AttentionShape,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [q, k, v] = [q, k, v].map(into_contiguous);
        let [mixed, log_sums, upstream] = [mixed, log_sums, upstream].map(into_contiguous);
        let [starts, ends] = [starts, ends].map(into_contiguous);
        let launch = Launch::new(&q, &starts, shape);
        let deltas = deltas(mixed, upstream.clone(), shape);
        let statistics = [log_sums, deltas];
        let dq = query_gradient(&launch, [&q, &k, &v, &upstream], &statistics, starts);
        let (dk, dv) = key_gradients(&launch, [&q, &k, &v, &upstream], &statistics, ends);
        (dq, dk, dv)
    }
}

/// The sum of a head's outputs times their gradients, `[b·t, n]`.
fn deltas(mixed: CubeTensor, upstream: CubeTensor, shape: AttentionShape) -> CubeTensor {
    let tokens = mixed.meta.shape()[0];
    let deltas = empty(&mixed, [tokens, shape.heads], DType::F32);
    let (client, total) = (mixed.client.clone(), tokens * shape.heads);
    let elements = element(mixed.dtype);
    #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
    // SAFETY: units below `total` read a head's vectors of both tensors, `[b·t, n·h]` and contiguous,
    // and write one of `total` sums.
    unsafe {
        attention_deltas_kernel::launch_unchecked(
            &client,
            spread_elements(total),
            cube_dim(),
            mixed.into_tensor_arg(),
            upstream.into_tensor_arg(),
            deltas.clone().into_tensor_arg(),
            total,
            shape.head_dim / 4,
            elements,
        );
    }
    deltas
}

fn query_gradient(
    launch: &Launch,
    [q, k, v, upstream]: [&CubeTensor; 4],
    [log_sums, deltas]: &[CubeTensor; 2],
    starts: CubeTensor,
) -> CubeTensor {
    let tile = launch.tile(Pass::Queries);
    let dq = empty(q, q.meta.shape().dims::<2>(), q.dtype);
    #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
    // SAFETY: as in the forward pass; `dq` is written where `q` is read.
    unsafe {
        attention_queries_kernel::launch_unchecked(
            &q.client,
            launch.cubes(SIDE * tile.queries, launch.shape.heads),
            square(),
            q.clone().into_tensor_arg(),
            k.clone().into_tensor_arg(),
            v.clone().into_tensor_arg(),
            upstream.clone().into_tensor_arg(),
            log_sums.clone().into_tensor_arg(),
            deltas.clone().into_tensor_arg(),
            starts.into_tensor_arg(),
            dq.clone().into_tensor_arg(),
            launch.t,
            launch.group(),
            launch.scale(),
            tile,
            element(q.dtype),
        );
    }
    dq
}

fn key_gradients(
    launch: &Launch,
    [q, k, v, upstream]: [&CubeTensor; 4],
    [log_sums, deltas]: &[CubeTensor; 2],
    ends: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let tile = launch.tile(Pass::Keys);
    let [dk, dv] = [k, v].map(|x| empty(x, x.meta.shape().dims::<2>(), x.dtype));
    #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
    // SAFETY: as in the forward pass; queries end at `ends`, which is at most `t`, and `dk` and `dv` are
    // written where `k` and `v` are read.
    unsafe {
        attention_keys_kernel::launch_unchecked(
            &q.client,
            launch.cubes(SIDE * tile.keys, launch.shape.kv_heads),
            square(),
            q.clone().into_tensor_arg(),
            k.clone().into_tensor_arg(),
            v.clone().into_tensor_arg(),
            upstream.clone().into_tensor_arg(),
            log_sums.clone().into_tensor_arg(),
            deltas.clone().into_tensor_arg(),
            ends.into_tensor_arg(),
            dk.clone().into_tensor_arg(),
            dv.clone().into_tensor_arg(),
            launch.t,
            launch.group(),
            launch.scale(),
            tile,
            element(q.dtype),
        );
    }
    (dk, dv)
}
