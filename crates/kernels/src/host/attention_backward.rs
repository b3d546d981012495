//! The derivative of causal attention within documents, by tiles.

use rayon::prelude::*;
use tracing::trace_span;

use super::attention::{TILE_KEYS, TILE_QUERIES, Tile};
use super::exponential::exp;
use super::simd::{dot, simd};
use super::{
    AttentionShape, Buffer, Documents, Matrix, MatrixMut, PIECE_ROWS, TILES, Threads, multiply,
};

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
        let [mut log_sums, mut inner] = [[0.0; TILE_QUERIES]; 2];
        for (i, (log_sum, inner)) in log_sums.iter_mut().zip(&mut inner).take(count).enumerate() {
            let at = of_tile + i * wide;
            *log_sum = all.log_sums[(first + i) * heads + head];
            *inner = dot(&all.upstream[at..at + h], &all.mixed[at..at + h]);
        }
        for tile in Tile::of(starts, first) {
            let of_keys = tile.keys * narrow + of_kv;
            let k = Matrix::within(&all.k[of_keys..], tile.width, h, narrow);
            let v = Matrix::within(&all.v[of_keys..], tile.width, h, narrow);
            let scores = &mut scores[..tile.width * count];
            let slopes = &mut slopes[..tile.width * count];
            // Keys are the rows: then four of the five products read their operands as they lie.
            let by_keys = |values| MatrixMut::new(values, tile.width, count);
            multiply(by_keys(scores), false, k, q.transposed(), scale, one);
            multiply(by_keys(slopes), false, v, upstream.transposed(), 1.0, one);
            trace_span!(target: TILES, "softmax").in_scope(|| {
                differentiate(scores, slopes, &tile, &log_sums[..count], &inner[..count], scale);
            });
            let (weights, slopes) =
                (Matrix::new(scores, tile.width, count), Matrix::new(slopes, tile.width, count));
            let range = tile.keys * h..(tile.keys + tile.width) * h;
            let of_keys = |values| MatrixMut::new(values, tile.width, h);
            multiply(of_keys(&mut dv[range.clone()]), true, weights, upstream, 1.0, one);
            multiply(of_keys(&mut dk[range]), true, slopes, q, 1.0, one);
            let out = MatrixMut::new(&mut dq[first * h..(first + count) * h], count, h);
            multiply(out, tile.keys != starts[0], slopes.transposed(), k, 1.0, one);
        }
    }
}

simd! {
    /// Puts the weights for the scores, and the scores' slopes for the weights'.
    ///
    /// `scores` and `slopes` `[keys, queries]`; `log_sums` and `inner` of the queries.
    fn differentiate(
        scores: &mut [f32],
        slopes: &mut [f32],
        tile: &Tile<'_>,
        log_sums: &[f32],
        inner: &[f32],
        scale: f32,
    ) {
        let count = log_sums.len();
        let rows = scores.chunks_exact_mut(count).zip(slopes.chunks_exact_mut(count));
        for (key, (scores, slopes)) in (tile.keys..).zip(rows) {
            let [from, to] = seeing(tile.starts, tile.first, key);
            for row in [&mut *scores, &mut *slopes] {
                row[..from].fill(0.0);
                row[to..].fill(0.0);
            }
            let of_queries = log_sums[from..to].iter().zip(&inner[from..to]);
            let here = scores[from..to].iter_mut().zip(&mut slopes[from..to]);
            for ((p, slope), (log_sum, inner)) in here.zip(of_queries) {
                // A score may exceed its log-sum by rounding; `exp` is for what does not.
                let exponent = *p - log_sum;
                *p = exp(if exponent > 0.0 { 0.0 } else { exponent });
                *slope = *p * (*slope - inner) * scale;
            }
        }
    }
}

/// The queries that see a key, as a range of a tile's queries: from the key's own position on, and as
/// long as their document has begun by then.
#[inline(always)]
fn seeing(starts: &[usize], first: usize, key: usize) -> [usize; 2] {
    let from = key.saturating_sub(first).min(starts.len());
    let all_begun = starts.last().is_none_or(|start| *start <= key);
    let to = if all_begun { starts.len() } else { starts.partition_point(|start| *start <= key) };
    [from, to.max(from)]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::attention_forward;
    use super::*;

    /// A value in −1..1 that depends on a seed and a place.
    fn value(seed: u64, i: usize) -> f32 {
        let mut x = seed.wrapping_add(i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((x >> 40) as f32) / (1u32 << 23) as f32 - 1.0
    }

    fn values(seed: u64, count: usize) -> Vec<f32> {
        (0..count).map(|i| value(seed, i)).collect()
    }

    /// Document numbers from the lengths of documents, repeated until a row is full.
    fn segments(lengths: &[usize], [b, t]: [usize; 2]) -> Vec<i32> {
        let row = lengths.iter().cycle().zip(0..).flat_map(|(n, d)| std::iter::repeat_n(d, *n));
        let row: Vec<i32> = row.take(t).collect();
        row.repeat(b)
    }

    /// `Σ out · upstream` by the definition, in f64.
    fn objective(
        operands: [&[f64]; 3],
        upstream: &[f32],
        segments: &[i32],
        [b, t]: [usize; 2],
        shape: AttentionShape,
    ) -> f64 {
        let AttentionShape { heads, kv_heads, head_dim: h } = shape;
        let [q, k, v] = operands;
        let mut total = 0.0;
        for (row, head, i) in
            (0..b).flat_map(|row| (0..heads).flat_map(move |n| (0..t).map(move |i| (row, n, i))))
        {
            let kv = head / (heads / kv_heads);
            let at = |i: usize, n: usize, all: usize| ((row * t + i) * all + n) * h;
            let query = at(i, head, heads);
            let keys: Vec<usize> =
                (0..=i).filter(|j| segments[row * t + j] == segments[row * t + i]).collect();
            let dot = |x: &[f64], y: &dyn Fn(usize) -> f64| -> f64 {
                x.iter().enumerate().map(|(c, x)| x * y(c)).sum()
            };
            let weights: Vec<f64> = keys
                .iter()
                .map(|j| {
                    let key = at(*j, kv, kv_heads);
                    (dot(&q[query..query + h], &|c| k[key + c]) / (h as f64).sqrt()).exp()
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            for (j, weight) in keys.iter().zip(&weights) {
                let from = at(*j, kv, kv_heads);
                let inner = dot(&v[from..from + h], &|c| f64::from(upstream[query + c]));
                total += weight / sum * inner;
            }
        }
        total
    }

    /// Compares values and gradients with central differences of the definition in f64.
    fn check(bt: [usize; 2], shape: AttentionShape, lengths: &[usize], seed: u64, stride: usize) {
        let AttentionShape { heads, kv_heads, head_dim } = shape;
        let tokens = bt[0] * bt[1];
        let (wide, narrow) = (tokens * heads * head_dim, tokens * kv_heads * head_dim);
        let (q, k, v) = (values(seed, wide), values(seed ^ 1, narrow), values(seed ^ 2, narrow));
        let upstream = values(seed ^ 3, wide);
        let segments = segments(lengths, bt);
        let documents = Documents::new(&segments, bt);
        let (mixed, log_sums) = attention_forward(&q, &k, &v, &documents, shape);
        let found = attention_backward(&q, &k, &v, &mixed, &log_sums, &upstream, &documents, shape);

        let double = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let mut operands = [double(&q), double(&k), double(&v)];
        let of = |operands: &[Vec<f64>; 3]| {
            let [q, k, v] = operands;
            objective([q, k, v], &upstream, &segments, bt, shape)
        };
        let total: f64 =
            mixed.iter().zip(&upstream).map(|(m, u)| f64::from(*m) * f64::from(*u)).sum();
        assert!((total - of(&operands)).abs() < 1e-5 * (wide as f64).sqrt().max(1.0), "{total}");
        for (which, found) in [&found.q, &found.k, &found.v].into_iter().enumerate() {
            for i in (seed as usize % stride..found.len()).step_by(stride) {
                let (old, step) = (operands[which][i], 1e-4);
                operands[which][i] = old + step;
                let above = of(&operands);
                operands[which][i] = old - step;
                let expected = (above - of(&operands)) / (2.0 * step);
                operands[which][i] = old;
                let difference = (f64::from(found[i]) - expected).abs();
                assert!(difference < 2e-5, "{which} {i}: {} {expected}", found[i]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn gradients_are_those_of_the_definition(
            b in 1usize..3,
            t in 1usize..12,
            kv_heads in 1usize..3,
            group in 1usize..5,
            half in 1usize..4,
            lengths in proptest::collection::vec(1usize..6, 1..5),
            seed: u64,
        ) {
            let shape = AttentionShape { heads: kv_heads * group, kv_heads, head_dim: 2 * half };
            check([b, t], shape, &lengths, seed, 1 + b * t * group / 2);
        }
    }

    #[test]
    fn sizes_that_no_tile_divides_agree_too() {
        let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 6 };
        let (queries, keys) = (TILE_QUERIES, TILE_KEYS);
        check([1, 2 * queries + 5], shape, &[3, 1, queries, 7], 5, 601);
        check([1, keys + queries + 9], shape, &[10_000], 6, 3_001);
        check([1, keys + queries + 9], shape, &[11, 10_000], 7, 3_001);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (bt, shape) = ([2, 150], AttentionShape { heads: 6, kv_heads: 2, head_dim: 16 });
        let (q, k) = (values(1, 300 * 96), values(2, 300 * 32));
        let documents = Documents::new(&segments(&[40, 1, 80], bt), bt);
        let run = || {
            let (mixed, sums) = attention_forward(&q, &k, &k, &documents, shape);
            let g = attention_backward(&q, &k, &k, &mixed, &sums, &q, &documents, shape);
            [&mixed, &sums, &g.q, &g.k, &g.v].map(|x| x.to_vec())
        };
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let one = pool(1).install(run);
        assert_eq!(one, pool(2).install(run));
        assert_eq!(one, pool(3).install(run));
    }
}
