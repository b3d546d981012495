//! The cross entropy of rows of logits.

use rayon::prelude::*;
use tracing::trace_span;

use super::exponential::exp;
use super::simd::{LANES, simd, sum_lanes};

/// The cross entropy of rows of logits, and its gradient in their place.
///
/// One pass for the maximum, one for the exponentials and their sum, one for the gradient, each row
/// by itself: the result does not depend on the number of threads.
///
/// # Shapes
///
/// `logits` `[rows, v]`; `targets`, `mask` and `nats` `[rows]`. Writes the nats and, in the place of
/// the logits, `mask · (softmax − onehot)`.
pub(crate) fn cross_entropy_rows(
    logits: &mut [f32],
    targets: &[i64],
    mask: &[f32],
    nats: &mut [f32],
) {
    let _cross_entropy = trace_span!("cross_entropy").entered();
    let v = logits.len() / nats.len();
    logits
        .par_chunks_mut(v)
        .zip(nats.par_iter_mut())
        .zip(targets.par_iter().zip(mask.par_iter()))
        .for_each(|((row, nats), (target, keep))| {
            *nats = cross_entropy_row(row, *target as usize, *keep);
        });
}

simd! {
fn cross_entropy_row(row: &mut [f32], target: usize, keep: f32) -> f32 {
    if keep == 0.0 {
        row.fill(0.0);
        return 0.0;
    }
    let maximum = maximum(row);
    let picked = row[target];
    let sum = exponentials(row, maximum);
    let scale = keep / sum;
    row.iter_mut().for_each(|x| *x *= scale);
    row[target] -= keep;
    keep * (sum.ln() + maximum - picked)
}
}

/// The largest element; NaN where one is, so that it is not lost.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut any_nan = false;
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            any_nan |= x.is_nan();
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    any_nan |= rest.iter().any(|x| x.is_nan());
    let maximum = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    if any_nan { f32::NAN } else { maximum }
}

/// Replaces each element by `exp(x − maximum)`; gives their sum.
#[inline(always)]
fn exponentials(row: &mut [f32], maximum: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - maximum);
            *lane += *x;
        }
    }
    let mut sum = sum_lanes(lanes);
    for x in chunks.into_remainder() {
        *x = exp(*x - maximum);
        sum += *x;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_nan_has_a_loss_that_is_nan() {
        for place in [0, 17, 40] {
            let mut row = vec![0.5; 41];
            row[place] = f32::NAN;
            assert!(cross_entropy_row(&mut row, 3, 1.0).is_nan(), "{place}");
        }
        let mut row = vec![f32::INFINITY; 5];
        assert!(!cross_entropy_row(&mut row, 3, 1.0).is_finite());
    }

    #[test]
    fn a_masked_row_gives_nothing() {
        let mut row = vec![f32::NAN; 5];
        assert_eq!(cross_entropy_row(&mut row, 0, 0.0).to_bits(), 0.0f32.to_bits());
        assert!(row.iter().all(|x| *x == 0.0));
    }
}
