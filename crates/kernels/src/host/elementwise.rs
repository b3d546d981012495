//! Sums over whole tensors.

use rayon::prelude::*;
use tracing::trace_span;

use super::PIECE_ELEMENTS;
use super::simd::simd;

/// Adds `b` to `a`, element by element.
///
/// # Panics
///
/// The lengths differ.
pub fn add_assign(a: &mut [f32], b: &[f32]) {
    let _add = trace_span!("add").entered();
    assert_eq!(a.len(), b.len(), "two of one size");
    a.par_chunks_mut(PIECE_ELEMENTS).zip(b.par_chunks(PIECE_ELEMENTS)).for_each(|(a, b)| add(a, b));
}

simd! {
    fn add(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += *b;
        }
    }
}
