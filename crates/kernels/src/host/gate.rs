//! SwiGLU and its derivative.

use rayon::prelude::*;
use tracing::trace_span;

use super::exponential::exp;
use super::simd::simd;
use super::{Buffer, PIECE_ELEMENTS};

/// Gives `silu(gate) · up`.
#[must_use]
pub fn gate_forward(gate: &[f32], up: &[f32]) -> Buffer {
    let _gate = trace_span!("gate").entered();
    assert_eq!(gate.len(), up.len(), "two of one size");
    let mut out = Buffer::any(gate.len());
    out.par_chunks_mut(PIECE_ELEMENTS)
        .zip(gate.par_chunks(PIECE_ELEMENTS).zip(up.par_chunks(PIECE_ELEMENTS)))
        .for_each(|(out, (gate, up))| forward(gate, up, out));
    out
}

/// Puts the gradients of `gate` and `up` in their place, given that of their product.
///
/// # Source
///
/// With `s` the sigmoid of the gate `x`: `silu' = s·(1 + x·(1 − s))`.
pub fn gate_backward(gate: &mut [f32], up: &mut [f32], upstream: &[f32]) {
    let _gate = trace_span!("gate").entered();
    assert_eq!([gate.len(), up.len()], [upstream.len(); 2], "three of one size");
    gate.par_chunks_mut(PIECE_ELEMENTS)
        .zip(up.par_chunks_mut(PIECE_ELEMENTS))
        .zip(upstream.par_chunks(PIECE_ELEMENTS))
        .for_each(|((gate, up), upstream)| backward(gate, up, upstream));
}

/// `1 / (1 + e^-x)`, by an exponential that never overflows.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

simd! {
    fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, x), up) in out.iter_mut().zip(gate).zip(up) {
            *out = x * sigmoid(*x) * up;
        }
    }
}

simd! {
    fn backward(gate: &mut [f32], up: &mut [f32], upstream: &[f32]) {
        for ((x, up), upstream) in gate.iter_mut().zip(up).zip(upstream) {
            let s = sigmoid(*x);
            let silu = *x * s;
            let slope = s + silu * (1.0 - s);
            *x = upstream * *up * slope;
            *up = upstream * silu;
        }
    }
}
