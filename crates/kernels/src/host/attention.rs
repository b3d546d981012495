//! Causal attention within documents by tiles, without the scores ever existing whole.

use rayon::prelude::*;
use tracing::trace_span;

use super::exponential::exp;
use super::simd::{LANES, simd, sum_lanes};
use super::{Buffer, Matrix, MatrixMut, TILES, Threads, multiply};

/// The extents of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads, a multiple of the key/value heads.
    pub heads: usize,
    /// Key/value heads; query head `i` uses `i / (heads/kv_heads)`.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
}

/// Where each position's document begins: what it may see.
#[derive(Clone, Debug)]
pub struct Documents {
    shape: [usize; 2],
    /// `[b·t]`, counted within the row; never falling within a row.
    starts: Vec<usize>,
}

impl Documents {
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
    pub fn new(segments: &[i32], [b, t]: [usize; 2]) -> Self {
        assert_eq!(segments.len(), b * t, "one document number for each position");
        let mut starts = Vec::with_capacity(b * t);
        for row in segments.chunks_exact(t.max(1)) {
            let mut start = 0;
            for (i, number) in row.iter().enumerate() {
                if i > 0 && row[i - 1] != *number {
                    assert!(row[i - 1] < *number, "documents are numbered as they come");
                    start = i;
                }
                starts.push(start);
            }
        }
        Self { shape: [b, t], starts }
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The first visible key of each position of a row.
    pub(super) fn row(&self, row: usize) -> &[usize] {
        let t = self.shape[1];
        &self.starts[row * t..(row + 1) * t]
    }
}

/// The queries of one tile.
pub(super) const TILE_QUERIES: usize = 64;

/// The keys of one tile: with the queries' its scores stay in a core's second cache.
pub(super) const TILE_KEYS: usize = 512;

/// The tile's part of an attention: queries `first..end` against keys `keys..keys + width`.
pub(super) struct Tile<'a> {
    /// The first visible key of each query of the tile.
    pub(super) starts: &'a [usize],
    /// The position of the first query.
    pub(super) first: usize,
    /// The position of the first key.
    pub(super) keys: usize,
    /// The number of keys.
    pub(super) width: usize,
}

impl<'a> Tile<'a> {
    /// The tiles of keys that the queries `first..first + starts.len()` see at all.
    pub(super) fn of(starts: &'a [usize], first: usize) -> impl Iterator<Item = Self> {
        let end = first + starts.len();
        (starts[0]..end).step_by(TILE_KEYS).map(move |keys| Self {
            starts,
            first,
            keys,
            width: TILE_KEYS.min(end - keys),
        })
    }
}

/// The visible keys of query `i` of a tile, counted from the tile's first key.
#[inline(always)]
pub(super) fn visible(
    starts: &[usize],
    first: usize,
    keys: usize,
    width: usize,
    i: usize,
) -> [usize; 2] {
    let from = starts[i].saturating_sub(keys).min(width);
    let to = (first + i + 1).saturating_sub(keys).min(width);
    [from, to.max(from)]
}

/// Scaled dot-product attention; gives the mixed values and the log-sum-exp of each query's scores.
///
/// # Shapes
///
/// `q` `[b·t, n·h]`, `k` and `v` `[b·t, k·h]`; gives `[b·t, n·h]` and `[b·t, n]`.
///
/// # Source
///
/// Dao 2023 (FlashAttention-2, arXiv 2307.08691), algorithm 1: a running maximum and sum per query,
/// the output rescaled when the maximum rises and divided once at the end.
#[must_use]
pub fn attention_forward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    documents: &Documents,
    shape: AttentionShape,
) -> (Buffer, Buffer) {
    let AttentionShape { heads, kv_heads, head_dim } = shape;
    let [b, t] = documents.shape();
    let (wide, narrow) = (heads * head_dim, kv_heads * head_dim);
    let mut mixed = Buffer::any(b * t * wide);
    let mut log_sums = Buffer::any(b * t * heads);
    for row in 0..b {
        let of_row = |width: usize| row * t * width..(row + 1) * t * width;
        let (q, k, v) = (&q[of_row(wide)], &k[of_row(narrow)], &v[of_row(narrow)]);
        let starts = documents.row(row);
        mixed[of_row(wide)]
            .par_chunks_mut(TILE_QUERIES * wide)
            .zip(log_sums[of_row(heads)].par_chunks_mut(TILE_QUERIES * heads))
            .enumerate()
            .for_each(|(index, (mixed, log_sums))| {
                let first = index * TILE_QUERIES;
                let starts = &starts[first..(first + TILE_QUERIES).min(t)];
                attend(&q[first * wide..], k, v, starts, first, shape, mixed, log_sums);
            });
    }
    (mixed, log_sums)
}

/// All heads of one tile of queries.
#[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
fn attend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    starts: &[usize],
    first: usize,
    shape: AttentionShape,
    mixed: &mut [f32],
    log_sums: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim: h } = shape;
    let (wide, narrow) = (heads * h, kv_heads * h);
    let count = starts.len();
    let scale = (h as f32).sqrt().recip();
    let mut scores = Buffer::any(TILE_QUERIES * TILE_KEYS);
    for head in 0..heads {
        let of_kv = head / (heads / kv_heads) * h;
        let mut running = [[f32::NEG_INFINITY, 0.0]; TILE_QUERIES];
        for tile in Tile::of(starts, first) {
            let keys = &k[tile.keys * narrow + of_kv..];
            let values = &v[tile.keys * narrow + of_kv..];
            let scores = &mut scores[..count * tile.width];
            multiply(
                MatrixMut::new(scores, count, tile.width),
                false,
                Matrix::within(&q[head * h..], count, h, wide),
                Matrix::within(keys, tile.width, h, narrow).transposed(),
                scale,
                Threads::One,
            );
            let begin = tile.keys == starts[0];
            let out = &mut mixed[head * h..];
            trace_span!(target: TILES, "softmax")
                .in_scope(|| weigh(scores, &tile, &mut running[..count], out, h, wide));
            multiply(
                MatrixMut::within(out, count, h, wide),
                !begin,
                Matrix::new(scores, count, tile.width),
                Matrix::within(values, tile.width, h, narrow),
                1.0,
                Threads::One,
            );
        }
        finish(&running[..count], &mut mixed[head * h..], h, wide, &mut log_sums[head..], heads);
    }
}

simd! {
    /// Puts exponentials for the scores, 0 where a key is hidden, and rescales what was mixed so far.
    fn weigh(
        scores: &mut [f32],
        tile: &Tile<'_>,
        running: &mut [[f32; 2]],
        mixed: &mut [f32],
        h: usize,
        stride: usize,
    ) {
        let begin = tile.keys == tile.starts[0];
        for (i, ([maximum, sum], row)) in
            running.iter_mut().zip(scores.chunks_exact_mut(tile.width)).enumerate()
        {
            let [from, to] = visible(tile.starts, tile.first, tile.keys, tile.width, i);
            row[..from].fill(0.0);
            row[to..].fill(0.0);
            if from == to {
                continue;
            }
            let row = &mut row[from..to];
            let new = maximum_of(row, *maximum);
            let correction = exp(*maximum - new);
            *sum = *sum * correction + exponentials(row, new);
            *maximum = new;
            if !begin && correction != 1.0 {
                mixed[i * stride..i * stride + h].iter_mut().for_each(|x| *x *= correction);
            }
        }
    }
}

/// The largest element, at least `least`; NaN is passed over here and comes back by the sum.
#[inline(always)]
pub(super) fn maximum_of(row: &[f32], least: f32) -> f32 {
    let mut lanes = [least; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.iter().chain(rest).copied().fold(least, f32::max)
}

/// Replaces each element by `exp(x − maximum)`; gives their sum.
#[inline(always)]
pub(super) fn exponentials(row: &mut [f32], maximum: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - maximum);
            lanes[i] += chunk[i];
        }
    }
    let mut rest = 0.0;
    for x in chunks.into_remainder() {
        *x = exp(*x - maximum);
        rest += *x;
    }
    sum_lanes(lanes) + rest
}

simd! {
    fn finish(
        running: &[[f32; 2]],
        mixed: &mut [f32],
        h: usize,
        stride: usize,
        log_sums: &mut [f32],
        heads: usize,
    ) {
        for (i, [maximum, sum]) in running.iter().enumerate() {
            let scale = 1.0 / sum;
            mixed[i * stride..i * stride + h].iter_mut().for_each(|x| *x *= scale);
            log_sums[i * heads] = maximum + sum.ln();
        }
    }
}
