//! The cross entropy of rows of logits.

use cubecl::prelude::*;

use super::UNITS;

/// Below any logit.
const NOTHING: f32 = -3.0e38;

/// The nats of each row and, in place of the logits, their gradient: a cube for each row.
///
/// # Source
///
/// With `p = softmax(z)`, the gradient of `-log p[y]` is `p - onehot(y)`. Maximum and sum are found in
/// one pass (Milakov and Gimelshein 2018, arXiv 1805.02867).
///
// NUMERICS: sums in f32, a unit's own first, then those of the units in a fixed order.
#[cube(launch_unchecked)]
pub(crate) fn cross_entropy_kernel<X: Float>(
    logits: &mut Tensor<X>,
    targets: &Tensor<i32>,
    mask: &Tensor<f32>,
    nats: &mut Tensor<f32>,
    rows: usize,
    width: usize,
    #[comptime] with_gradients: bool,
    #[define(X)] _element: ElemType,
) {
    let unit = UNIT_POS as usize;
    let row = CUBE_POS as usize;
    if row < rows {
        let mut tops = Shared::<[f32]>::new_slice(UNITS);
        let mut sums = Shared::<[f32]>::new_slice(UNITS);
        let first = row * width;
        let mut top = NOTHING.runtime();
        let mut sum = 0.0f32.runtime();
        let mut i = unit;
        while i < width {
            let logit = f32::cast_from(logits[first + i]);
            if logit > top {
                sum = sum * (top - logit).exp() + 1.0f32;
                top = logit;
            } else {
                sum += (logit - top).exp();
            }
            i += UNITS;
        }
        tops[unit] = top;
        sums[unit] = sum;
        sync_cube();
        let mut distance = comptime!(UNITS / 2).runtime();
        while distance > 0 {
            if unit < distance {
                let other = tops[unit + distance];
                let higher = max(tops[unit], other);
                sums[unit] = sums[unit] * (tops[unit] - higher).exp()
                    + sums[unit + distance] * (other - higher).exp();
                tops[unit] = higher;
            }
            sync_cube();
            distance /= 2;
        }
        let log_sum = tops[0] + sums[0].ln();
        let target = usize::cast_from(targets[row]);
        let counts = mask[row];
        let mut i = unit;
        if with_gradients {
            while i < width {
                let logit = f32::cast_from(logits[first + i]);
                let mut slope = (logit - log_sum).exp();
                // The target's logit is read by the unit that overwrites it.
                if i == target {
                    nats[row] = (log_sum - logit) * counts;
                    slope -= 1.0f32;
                }
                logits[first + i] = X::cast_from(slope * counts);
                i += UNITS;
            }
        } else if unit == 0 {
            nats[row] = (log_sum - f32::cast_from(logits[first + target])) * counts;
        }
    }
}
