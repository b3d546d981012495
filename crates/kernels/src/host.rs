//! Fused row operations for devices whose memory is the host's.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Whether reading a tensor of `device` is free: its memory is the host's.
#[cfg(feature = "flex")]
pub(crate) fn is_host(device: &Device) -> bool {
    matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_))
}

/// Whether reading a tensor of `device` is free: its memory is the host's.
#[cfg(not(feature = "flex"))]
pub(crate) fn is_host(_device: &Device) -> bool {
    false
}

/// The cross entropy of rows of logits, and its gradient in their place.
///
/// One pass for the maximum, one for the exponentials and their sum, one for the gradient, each row
/// by itself: the result does not depend on the number of threads.
///
/// # Shapes
///
/// `logits` `[rows, v]`; `targets` and `mask` `[rows]`. Gives the nats `[rows]` and, in the shape of
/// the logits, `mask · (softmax − onehot)`.
pub(crate) fn cross_entropy_rows(
    logits: Tensor<2>,
    targets: &[i64],
    mask: &[f32],
) -> (Vec<f32>, Tensor<2>) {
    let [rows, v] = logits.dims();
    let device = logits.device();
    let mut data = logits.into_data();
    let values = data.as_mut_slice::<f32>().expect("logits are f32");
    let mut nats = vec![0.0; rows];
    values
        .par_chunks_mut(v)
        .zip(nats.par_iter_mut())
        .zip(targets.par_iter().zip(mask.par_iter()))
        .for_each(|((row, nats), (target, keep))| {
            *nats = cross_entropy_row(row, *target as usize, *keep);
        });
    (nats, Tensor::from_data(data, &device))
}

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

const LANES: usize = 16;

/// The largest element; NaN where one is, so that it is not lost.
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
fn exponentials(row: &mut [f32], maximum: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - maximum);
            *lane += *x;
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for x in chunks.into_remainder() {
        *x = exp(*x - maximum);
        sum += *x;
    }
    sum
}

/// `e^x` for `x ≤ 0`, branch-free so that a compiler can take several at once.
///
/// # Source
///
/// Cephes `expf`: `x = n·ln 2 + r` with `ln 2` in two parts, a polynomial of degree 5 in `r`, and
/// `2^n` put into the exponent; relative error below 2e-7. Below −87 the result is 0.
#[inline]
fn exp(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    // NaN is neither, and stays.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let n = (clamped * std::f32::consts::LOG2_E + SHIFT) - SHIFT;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let e = p * r * r + r + 1.0;
    let scaled = e * f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { scaled }
}

/// A tensor of one value per row on the device of `like`.
pub(crate) fn rows_like(values: Vec<f32>, like: &Tensor<2>) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), &like.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_two_units() {
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - expected).abs() <= 2.5e-7 * expected, "{x}: {found} {expected}");
        }
        assert_eq!(exp(-1000.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert!(exp(f32::NAN).is_nan());
    }

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
