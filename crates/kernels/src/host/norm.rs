//! Root-mean-square normalisation and its derivative.

use rayon::prelude::*;
use tracing::trace_span;

use super::simd::{dot, simd};
use super::{Buffer, PIECE_ROWS};

/// The factor that brings each row to unit root mean square.
///
/// # Shapes
///
/// `x` `[rows, d]`; gives `[rows]`.
#[must_use]
pub fn norm_scale(x: &[f32], d: usize, epsilon: f64) -> Vec<f32> {
    let _norm = trace_span!("norm").entered();
    let mut scale = vec![0.0; x.len() / d];
    x.par_chunks(PIECE_ROWS * d)
        .zip(scale.par_chunks_mut(PIECE_ROWS))
        .for_each(|(x, scale)| scales(x, scale, d, epsilon as f32));
    scale
}

simd! {
    fn scales(x: &[f32], scale: &mut [f32], d: usize, epsilon: f32) {
        for (row, scale) in x.chunks_exact(d).zip(scale) {
            *scale = 1.0 / (dot(row, row) / d as f32 + epsilon).sqrt();
        }
    }
}

/// Scales each row by its factor, then by `weight`.
///
/// # Shapes
///
/// `x` `[rows, d]`, `scale` `[rows]`, `weight` `[d]`; gives `[rows, d]`.
#[must_use]
pub fn norm_forward(x: &[f32], scale: &[f32], weight: &[f32]) -> Buffer {
    let _norm = trace_span!("norm").entered();
    let d = weight.len();
    let mut y = Buffer::any(x.len());
    x.par_chunks(PIECE_ROWS * d)
        .zip(y.par_chunks_mut(PIECE_ROWS * d))
        .zip(scale.par_chunks(PIECE_ROWS))
        .for_each(|((x, y), scale)| normalise(x, y, scale, weight));
    y
}

simd! {
    fn normalise(x: &[f32], y: &mut [f32], scale: &[f32], weight: &[f32]) {
        let d = weight.len();
        for ((x, y), scale) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(scale) {
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * scale * w;
            }
        }
    }
}

/// Adds the gradient with respect to the input to `dx`; gives the weight's, `[d]`.
///
/// # Shapes
///
/// `x`, `dy` and `dx` `[rows, d]`, `scale` `[rows]`, `weight` `[d]`.
///
/// # Source
///
/// With `r` the scale and `g = dy·w`: `dx = r·g − x·r³/d·Σ g·x`, and `dw = Σ_rows dy·x·r`.
#[must_use]
pub fn norm_backward(
    x: &[f32],
    scale: &[f32],
    weight: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) -> Vec<f32> {
    let _norm = trace_span!("norm").entered();
    let d = weight.len();
    let mut partial = vec![0.0; scale.len().div_ceil(PIECE_ROWS) * d];
    x.par_chunks(PIECE_ROWS * d)
        .zip(dy.par_chunks(PIECE_ROWS * d))
        .zip(dx.par_chunks_mut(PIECE_ROWS * d))
        .zip(scale.par_chunks(PIECE_ROWS))
        .zip(partial.par_chunks_mut(d))
        .for_each(|((((x, dy), dx), scale), partial)| {
            backward(x, scale, weight, dy, dx, partial);
        });
    let mut total = vec![0.0; d];
    for partial in partial.chunks_exact(d) {
        total.iter_mut().zip(partial).for_each(|(t, p)| *t += p);
    }
    total
}

simd! {
    fn backward(
        x: &[f32],
        scale: &[f32],
        weight: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        dw: &mut [f32],
    ) {
        let d = weight.len();
        // `g` of one row.
        let mut g = vec![0.0f32; d];
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d));
        for (((x, dy), dx), &r) in rows.zip(scale) {
            for ((g, dy), w) in g.iter_mut().zip(dy).zip(weight) {
                *g = dy * w;
            }
            let c = dot(&g, x) * r * r * r / d as f32;
            for (((dx, g), x), (dw, dy)) in
                dx.iter_mut().zip(&g).zip(x).zip(dw.iter_mut().zip(dy))
            {
                *dx += r * g - x * c;
                *dw += dy * x * r;
            }
        }
    }
}
