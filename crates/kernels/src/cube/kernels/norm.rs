//! Root-mean-square norms of rows, and their backward pass.

use cubecl::prelude::*;

use super::UNITS;
use super::reduce::{Reduction, reduce_units};

/// Norms of rows, and `1/sqrt(mean square + epsilon)` of each: a cube for each row.
///
// NUMERICS: sums in f32, a unit's own first, then those of the units in a fixed order.
#[cube(launch_unchecked)]
pub(crate) fn norm_forward_kernel<X: Float, W: Float, Y: Float>(
    x: &Tensor<X>,
    weight: &Tensor<W>,
    normed: &mut Tensor<Y>,
    scales: &mut Tensor<f32>,
    rows: usize,
    width: usize,
    epsilon: f32,
    #[define(X, W, Y)] _elements: [ElemType; 3],
) {
    let unit = UNIT_POS as usize;
    let row = CUBE_POS as usize;
    if row < rows {
        let mut parts = Shared::<[f32]>::new_slice(UNITS);
        let first = row * width;
        let mut sum = 0.0f32.runtime();
        let mut i = unit;
        while i < width {
            let value = f32::cast_from(x[first + i]);
            sum += value * value;
            i += UNITS;
        }
        let mean = reduce_units(sum, &mut parts, Reduction::Sum) / f32::cast_from(width);
        let scale = 1.0f32 / (mean + epsilon).sqrt();
        if unit == 0 {
            scales[row] = scale;
        }
        let mut i = unit;
        while i < width {
            let value = f32::cast_from(x[first + i]) * scale;
            normed[first + i] = Y::cast_from(value * f32::cast_from(weight[i]));
            i += UNITS;
        }
    }
}

/// The same from the known scales: a unit for each element.
#[cube(launch_unchecked)]
pub(crate) fn norm_apply_kernel<X: Float, W: Float, Y: Float>(
    x: &Tensor<X>,
    weight: &Tensor<W>,
    scales: &Tensor<f32>,
    normed: &mut Tensor<Y>,
    total: usize,
    width: usize,
    #[define(X, W, Y)] _elements: [ElemType; 3],
) {
    if ABSOLUTE_POS < total {
        let value = f32::cast_from(x[ABSOLUTE_POS]) * scales[ABSOLUTE_POS / width];
        let weight = f32::cast_from(weight[ABSOLUTE_POS % width]);
        normed[ABSOLUTE_POS] = Y::cast_from(value * weight);
    }
}

/// Adds the gradient of the rows to `residual`, in place: a cube for each row.
///
/// With `u = weight · upstream` and `z = x · scale` it is `scale · (u - z · mean(u · z))`.
#[cube(launch_unchecked)]
pub(crate) fn norm_backward_kernel<X: Float, W: Float, Y: Float, R: Float>(
    x: &Tensor<X>,
    weight: &Tensor<W>,
    scales: &Tensor<f32>,
    upstream: &Tensor<Y>,
    residual: &mut Tensor<R>,
    rows: usize,
    width: usize,
    #[comptime] replaces: bool,
    #[define(X, W, Y, R)] _elements: [ElemType; 4],
) {
    let unit = UNIT_POS as usize;
    let row = CUBE_POS as usize;
    if row < rows {
        let mut parts = Shared::<[f32]>::new_slice(UNITS);
        let first = row * width;
        let scale = scales[row];
        let mut sum = 0.0f32.runtime();
        let mut i = unit;
        while i < width {
            let slope = f32::cast_from(upstream[first + i]) * f32::cast_from(weight[i]);
            sum += slope * f32::cast_from(x[first + i]) * scale;
            i += UNITS;
        }
        let mean = reduce_units(sum, &mut parts, Reduction::Sum) / f32::cast_from(width);
        let mut i = unit;
        while i < width {
            let slope = f32::cast_from(upstream[first + i]) * f32::cast_from(weight[i]);
            let mut gradient = scale * (slope - f32::cast_from(x[first + i]) * scale * mean);
            if !replaces {
                gradient += f32::cast_from(residual[first + i]);
            }
            residual[first + i] = R::cast_from(gradient);
            i += UNITS;
        }
    }
}

/// The weight's gradient over parts of the rows, `[parts, width]`: a unit for each column and part.
#[cube(launch_unchecked)]
pub(crate) fn norm_weight_kernel<X: Float, Y: Float>(
    x: &Tensor<X>,
    scales: &Tensor<f32>,
    upstream: &Tensor<Y>,
    parts: &mut Tensor<f32>,
    rows: usize,
    width: usize,
    part_rows: usize,
    #[define(X, Y)] _elements: [ElemType; 2],
) {
    let column = CUBE_POS_X as usize * UNITS + UNIT_POS as usize;
    let part = CUBE_POS_Y as usize;
    if column < width {
        let mut sum = 0.0f32.runtime();
        let mut row = part * part_rows;
        let end = min(row + part_rows, rows);
        while row < end {
            let place = row * width + column;
            sum += f32::cast_from(x[place]) * scales[row] * f32::cast_from(upstream[place]);
            row += 1;
        }
        parts[part * width + column] = sum;
    }
}

/// The sum of the parts of each column: a unit for each.
#[cube(launch_unchecked)]
pub(crate) fn sum_parts_kernel(
    parts: &Tensor<f32>,
    sums: &mut Tensor<f32>,
    count: usize,
    width: usize,
) {
    if ABSOLUTE_POS < width {
        let mut sum = 0.0f32.runtime();
        let mut part = 0usize.runtime();
        while part < count {
            sum += parts[part * width + ABSOLUTE_POS];
            part += 1;
        }
        sums[ABSOLUTE_POS] = sum;
    }
}
