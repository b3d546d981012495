//! Rotary position embedding in place, and its derivative.

use rayon::prelude::*;
use tracing::trace_span;

use super::PIECE_ROWS;
use super::simd::simd;

/// The cosines and sines of a batch of positions.
#[derive(Clone, Debug)]
pub struct Rotations {
    /// `[rows, h/2]`.
    pub cos: Vec<f32>,
    /// `[rows, h/2]`.
    pub sin: Vec<f32>,
    /// `h/2`.
    pub half: usize,
}

/// Rotates the heads of each row; `backward` turns the other way, which is the derivative.
///
/// # Shapes
///
/// `x` `[rows, n·h]`.
///
// PARITY: element `i` is paired with `i + h/2` (Hugging Face `rotate_half`).
pub fn rotate(x: &mut [f32], rotations: &Rotations, backward: bool) {
    let _rotation = trace_span!("rotation").entered();
    let rows = rotations.cos.len() / rotations.half;
    let width = x.len() / rows;
    let piece = PIECE_ROWS * rotations.half;
    x.par_chunks_mut(PIECE_ROWS * width)
        .zip(rotations.cos.par_chunks(piece).zip(rotations.sin.par_chunks(piece)))
        .for_each(|(x, (cos, sin))| {
            rotate_rows(x, width, cos, sin, rotations.half, if backward { -1.0 } else { 1.0 });
        });
}

simd! {
    fn rotate_rows(x: &mut [f32], width: usize, cos: &[f32], sin: &[f32], half: usize, sign: f32) {
        let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for (row, (cos, sin)) in x.chunks_exact_mut(width).zip(angles) {
            for head in row.chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for ((a, b), (c, s)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                    let s = sign * s;
                    let (x, y) = (*a, *b);
                    *a = x * c - y * s;
                    *b = y * c + x * s;
                }
            }
        }
    }
}
