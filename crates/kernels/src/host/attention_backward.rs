//! The derivative of causal attention within documents, by tiles.

use rayon::prelude::*;

use super::attention::{TILE_KEYS, TILE_QUERIES, Tile, visible};
use super::exponential::exp;
use super::simd::{dot, simd};
use super::{AttentionShape, Buffer, Documents, Matrix, MatrixMut, PIECE_ROWS, Threads, multiply};

/// The gradients of an attention's operands, in their shapes.
#[derive(Debug)]
pub struct AttentionGradients {
    /// `[b·t, n·h]`.
    pub q: Buffer,
    /// `[b·t, k·h]`.
    pub k: Buffer,
    /// `[b·t, k·h]`.
    pub v: Buffer,
}

/// The operands and results of a forward pass, and the gradient of its output.
struct Operands<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    mixed: &'a [f32],
    log_sums: &'a [f32],
    upstream: &'a [f32],
    shape: AttentionShape,
}

/// The gradients of queries, keys and values.
///
/// Each pair of sequence and query head is one piece of parallel work; the heads of a group are
/// added afterwards, in their order.
///
/// # Shapes
///
/// As [`attention_forward`](super::attention_forward) takes and gives them; `upstream` `[b·t, n·h]`.
///
/// # Source
///
/// Dao 2023 (FlashAttention-2, arXiv 2307.08691), algorithm 2: `P = exp(S − L)`, `D = Σ dO·O`,
/// `dS = P·(dO·Vᵀ − D)`.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
pub fn attention_backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    mixed: &[f32],
    log_sums: &[f32],
    upstream: &[f32],
    documents: &Documents,
    shape: AttentionShape,
) -> AttentionGradients {
    let AttentionShape { heads, head_dim: h, .. } = shape;
    let [_, t] = documents.shape();
    let all = Operands { q, k, v, mixed, log_sums, upstream, shape };
    // Of each sequence and query head one after the other: dq, dk and dv, each `[t, h]`.
    let mut parts = Buffer::any(3 * q.len());
    parts.par_chunks_mut(3 * t * h).enumerate().for_each(|(index, part)| {
        let (row, head) = (index / heads, index % heads);
        let [dq, dk, dv] = thirds(part);
        head_backward(&all.of_row(row, t), head, documents.row(row), dq, dk, dv);
    });
    gather(&parts, t, q.len(), k.len(), shape)
}

fn thirds(part: &mut [f32]) -> [&mut [f32]; 3] {
    let third = part.len() / 3;
    let (a, rest) = part.split_at_mut(third);
    let (b, c) = rest.split_at_mut(third);
    [a, b, c]
}

impl Operands<'_> {
    fn of_row(&self, row: usize, t: usize) -> Self {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape;
        let part = |width: usize| row * t * width..(row + 1) * t * width;
        let (wide, narrow) = (part(heads * head_dim), part(kv_heads * head_dim));
        Self {
            q: &self.q[wide.clone()],
            k: &self.k[narrow.clone()],
            v: &self.v[narrow],
            mixed: &self.mixed[wide.clone()],
            log_sums: &self.log_sums[part(heads)],
            upstream: &self.upstream[wide],
            shape: self.shape,
        }
    }
}

/// One query head of one sequence; `dq`, `dk`, `dv` `[t, h]`.
fn head_backward(
    all: &Operands<'_>,
    head: usize,
    starts: &[usize],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let AttentionShape { heads, kv_heads, head_dim: h } = all.shape;
    let (wide, narrow) = (heads * h, kv_heads * h);
    let of_kv = head / (heads / kv_heads) * h;
    let scale = (h as f32).sqrt().recip();
    let mut scores = Buffer::any(TILE_QUERIES * TILE_KEYS);
    let mut slopes = Buffer::any(TILE_QUERIES * TILE_KEYS);
    dk.fill(0.0);
    dv.fill(0.0);
    let one = Threads::One;
    for first in (0..starts.len()).step_by(TILE_QUERIES) {
        let starts = &starts[first..(first + TILE_QUERIES).min(starts.len())];
        let count = starts.len();
        let of_tile = first * wide + head * h;
        let q = Matrix::within(&all.q[of_tile..], count, h, wide);
        let upstream = Matrix::within(&all.upstream[of_tile..], count, h, wide);
        let mut offsets = [[0.0; 2]; TILE_QUERIES];
        for (i, [log_sum, inner]) in offsets[..count].iter_mut().enumerate() {
            let at = of_tile + i * wide;
            *log_sum = all.log_sums[(first + i) * heads + head];
            *inner = dot(&all.upstream[at..at + h], &all.mixed[at..at + h]);
        }
        for tile in Tile::of(starts, first) {
            let of_keys = tile.keys * narrow + of_kv;
            let k = Matrix::within(&all.k[of_keys..], tile.width, h, narrow);
            let v = Matrix::within(&all.v[of_keys..], tile.width, h, narrow);
            let scores = &mut scores[..count * tile.width];
            let slopes = &mut slopes[..count * tile.width];
            let square = |values| MatrixMut::new(values, count, tile.width);
            multiply(square(scores), false, q, k.transposed(), scale, one);
            multiply(square(slopes), false, upstream, v.transposed(), 1.0, one);
            differentiate(scores, slopes, &tile, &offsets[..count], scale);
            let (weights, slopes) =
                (Matrix::new(scores, count, tile.width), Matrix::new(slopes, count, tile.width));
            let range = tile.keys * h..(tile.keys + tile.width) * h;
            let of_keys = |values| MatrixMut::new(values, tile.width, h);
            multiply(
                of_keys(&mut dv[range.clone()]),
                true,
                weights.transposed(),
                upstream,
                1.0,
                one,
            );
            multiply(of_keys(&mut dk[range]), true, slopes.transposed(), q, 1.0, one);
            let out = MatrixMut::new(&mut dq[first * h..(first + count) * h], count, h);
            multiply(out, tile.keys != starts[0], slopes, k, 1.0, one);
        }
    }
}

simd! {
    /// Puts the weights for the scores, and the scores' slopes for the weights'.
    fn differentiate(
        scores: &mut [f32],
        slopes: &mut [f32],
        tile: &Tile<'_>,
        offsets: &[[f32; 2]],
        scale: f32,
    ) {
        let rows = scores.chunks_exact_mut(tile.width).zip(slopes.chunks_exact_mut(tile.width));
        for (i, ((scores, slopes), [log_sum, inner])) in rows.zip(offsets).enumerate() {
            let [from, to] = visible(tile.starts, tile.first, tile.keys, tile.width, i);
            for row in [&mut *scores, &mut *slopes] {
                row[..from].fill(0.0);
                row[to..].fill(0.0);
            }
            for (p, slope) in scores[from..to].iter_mut().zip(&mut slopes[from..to]) {
                // A score may exceed its log-sum by rounding; `exp` is for what does not.
                let exponent = *p - log_sum;
                *p = exp(if exponent > 0.0 { 0.0 } else { exponent });
                *slope = *p * (*slope - inner) * scale;
            }
        }
    }
}

/// Puts the parts of all heads in their place and adds those of a group.
fn gather(
    parts: &[f32],
    t: usize,
    wide: usize,
    narrow: usize,
    shape: AttentionShape,
) -> AttentionGradients {
    let AttentionShape { heads, kv_heads, head_dim: h } = shape;
    let group = heads / kv_heads;
    let mut q = Buffer::any(wide);
    let mut k = Buffer::any(narrow);
    let mut v = Buffer::any(narrow);
    q.par_chunks_mut(PIECE_ROWS * heads * h)
        .zip(k.par_chunks_mut(PIECE_ROWS * kv_heads * h))
        .zip(v.par_chunks_mut(PIECE_ROWS * kv_heads * h))
        .enumerate()
        .for_each(|(piece, ((q, k), v))| {
            let rows = q.chunks_exact_mut(heads * h).zip(k.chunks_exact_mut(kv_heads * h));
            for (i, ((q, k), v)) in rows.zip(v.chunks_exact_mut(kv_heads * h)).enumerate() {
                let position = piece * PIECE_ROWS + i;
                let (row, at) = (position / t, position % t);
                let part = |head: usize, which: usize| {
                    let from = (((row * heads + head) * 3 + which) * t + at) * h;
                    &parts[from..from + h]
                };
                for (head, q) in q.chunks_exact_mut(h).enumerate() {
                    q.copy_from_slice(part(head, 0));
                }
                for (which, out) in [(1, k), (2, v)] {
                    for (head, out) in out.chunks_exact_mut(h).enumerate() {
                        out.copy_from_slice(part(head * group, which));
                        for other in head * group + 1..(head + 1) * group {
                            out.iter_mut().zip(part(other, which)).for_each(|(o, p)| *o += p);
                        }
                    }
                }
            }
        });
    AttentionGradients { q, k, v }
}
