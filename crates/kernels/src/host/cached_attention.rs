//! Attention of new queries against keys and values that are kept from before.

use rayon::prelude::*;

use super::attention::{exponentials, maximum_of};
use super::simd::simd;
use super::{AttentionShape, Buffer, Matrix, MatrixMut, Threads, multiply};

/// The queries of one piece of work.
const TILE_QUERIES: usize = 64;

/// New positions of one sequence, and what its cache holds, the new positions' own included.
#[derive(Clone, Copy, Debug)]
pub struct CachedSpan<'a> {
    /// The positions that come before the new ones.
    pub before: usize,
    /// The number of new positions.
    pub count: usize,
    /// `[k, capacity, h]`.
    pub keys: &'a [f32],
    /// `[k, capacity, h]`.
    pub values: &'a [f32],
}

/// A tile of queries of one span, for some of the key/value heads.
struct Work<'a> {
    q: &'a [f32],
    out: &'a mut [f32],
    span: CachedSpan<'a>,
    /// The position of the first query.
    first: usize,
    count: usize,
    kv_heads: std::ops::Range<usize>,
}

/// Scaled dot-product attention of each span's new positions to all of its positions up to their own.
///
/// # Shapes
///
/// `q` `[rows, n·h]`, the spans' rows one after the other; gives the same.
///
/// # Determinism
///
/// A span's result does not depend on what other spans there are; a row's depends, in its last bits,
/// on how many rows of its span are asked for at once.
///
/// # Panics
///
/// The spans have another number of rows, or hold fewer positions than they say.
#[must_use]
pub fn cached_attention(q: &[f32], spans: &[CachedSpan<'_>], shape: AttentionShape) -> Buffer {
    let wide = shape.heads * shape.head_dim;
    let rows: usize = spans.iter().map(|span| span.count).sum();
    assert_eq!(q.len(), rows * wide, "one query for each new position");
    let mut mixed = Buffer::any(q.len());
    let mut work = Vec::new();
    let (mut q, mut out) = (q, &mut mixed[..]);
    for span in spans {
        // One row is cut by heads, several are cut by rows: both are contiguous.
        let pieces =
            if span.count == 1 { shape.kv_heads } else { span.count.div_ceil(TILE_QUERIES) };
        for piece in 0..pieces {
            let (done, count, kv_heads) = if span.count == 1 {
                (0, 1, piece..piece + 1)
            } else {
                let done = piece * TILE_QUERIES;
                (done, TILE_QUERIES.min(span.count - done), 0..shape.kv_heads)
            };
            let size = count * wide * kv_heads.len() / shape.kv_heads;
            let (tile, rest) = std::mem::take(&mut out).split_at_mut(size);
            let (queries, others) = q.split_at(size);
            (q, out) = (others, rest);
            let first = span.before + done;
            work.push(Work { q: queries, out: tile, span: *span, first, count, kv_heads });
        }
    }
    work.into_par_iter().for_each(|work| attend(work, shape));
    mixed
}

fn attend(work: Work<'_>, shape: AttentionShape) {
    let Work { q, out, span, first, count, kv_heads } = work;
    let AttentionShape { heads, kv_heads: all, head_dim: h } = shape;
    let (group, width) = (heads / all, first + count);
    let per_head = span.keys.len() / all;
    assert!(width * h <= per_head, "the cache holds the positions");
    let scale = (h as f32).sqrt().recip();
    let begin = kv_heads.start;
    for head in kv_heads {
        let keys = Matrix::new(&span.keys[head * per_head..][..width * h], width, h);
        let values = Matrix::new(&span.values[head * per_head..][..width * h], width, h);
        let mix = |q: Matrix<'_>, out: MatrixMut<'_>, rows: usize| {
            let mut scores = Buffer::any(rows * width);
            let whole = MatrixMut::new(&mut scores, rows, width);
            multiply(whole, false, q, keys.transposed(), scale, Threads::One);
            // The rows of one position are the heads of a group, which see the same.
            weigh(&mut scores, width, first + 1, usize::from(count > 1));
            let weights = Matrix::new(&scores, rows, width);
            multiply(out, false, weights, values, 1.0, Threads::One);
        };
        let place = (head - begin) * group * h;
        if count == 1 {
            let of_group = place..place + group * h;
            let out = MatrixMut::new(&mut out[of_group.clone()], group, h);
            mix(Matrix::new(&q[of_group], group, h), out, group);
        } else {
            for place in (0..group).map(|i| place + i * h) {
                let out = MatrixMut::within(&mut out[place..], count, h, heads * h);
                mix(Matrix::within(&q[place..], count, h, heads * h), out, count);
            }
        }
    }
}

simd! {
    /// Puts the softmax of each row's visible scores in their place, and 0 where a key is hidden; the
    /// first row sees `visible` keys and each further one `growth` more.
    fn weigh(scores: &mut [f32], width: usize, visible: usize, growth: usize) {
        for (i, row) in scores.chunks_exact_mut(width).enumerate() {
            let (row, hidden) = row.split_at_mut(visible + i * growth);
            hidden.fill(0.0);
            let maximum = maximum_of(row, f32::NEG_INFINITY);
            let scale = 1.0 / exponentials(row, maximum);
            row.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Documents, attention_forward};

    #[test]
    fn agrees_with_attention_without_a_cache() {
        let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 8 };
        let (t, capacity) = (150, 160);
        let noise = |n: usize, key: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 7919 + key * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
        };
        let (q, k, v) = (noise(t * 48, 1), noise(t * 16, 2), noise(t * 16, 3));
        let documents = Documents::new(&vec![0; t], [1, t]);
        let (expected, _) = attention_forward(&q, &k, &v, &documents, shape);
        let cache = |x: &[f32]| {
            let mut cache = vec![f32::NAN; 2 * capacity * 8];
            for (row, values) in x.chunks_exact(16).enumerate() {
                for (head, values) in values.chunks_exact(8).enumerate() {
                    cache[(head * capacity + row) * 8..][..8].copy_from_slice(values);
                }
            }
            cache
        };
        let (keys, values) = (cache(&k), cache(&v));
        for spans in [vec![150], vec![100, 50], vec![1, 1, 148], vec![149, 1]] {
            let mut before = 0;
            let mut found = Vec::new();
            for count in spans {
                let span = CachedSpan { before, count, keys: &keys, values: &values };
                let q = &q[before * 48..(before + count) * 48];
                found.extend_from_slice(&cached_attention(q, &[span], shape));
                before += count;
            }
            for (found, expected) in found.iter().zip(&expected[..]) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}
