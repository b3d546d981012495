//! Products of few rows with a matrix that is read once.

use rayon::prelude::*;

use super::simd::{LANES, dot, simd, sum_lanes};
use super::{Buffer, Matrix, MatrixMut, Threads, multiply};

/// Up to as many rows the time goes into reading the matrix; with more, `gemm` is faster although it
/// copies the matrix into an order of its own first.
const FEW_ROWS: usize = 12;
/// The weights of one parallel piece of work.
const PIECE_WEIGHTS: usize = 1 << 16;
/// Rows that are multiplied with one reading of a row of weights.
const GROUP: usize = 4;

/// Multiplies rows by a transposed matrix, whichever way is faster for so many.
///
/// # Shapes
///
/// `x` `[rows, in]`, `weight` `[out, in]`; gives `[rows, out]`.
///
/// # Panics
///
/// They are not whole rows of `inputs` numbers.
#[must_use]
pub fn linear_forward(x: &[f32], weight: &[f32], inputs: usize) -> Buffer {
    let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
    if rows <= FEW_ROWS {
        return product_by_rows(x, weight, inputs);
    }
    let mut y = Buffer::any(rows * outputs);
    multiply(
        MatrixMut::new(&mut y, rows, outputs),
        false,
        Matrix::new(x, rows, inputs),
        Matrix::new(weight, outputs, inputs).transposed(),
        1.0,
        Threads::All,
    );
    y
}

/// Multiplies each row of `x` by the transposed matrix, reading the matrix once for all rows.
///
/// # Shapes
///
/// `x` `[rows, in]`, `weight` `[out, in]`; gives `[rows, out]`.
///
/// # Determinism
///
/// A row's result is the same to the last bit whatever other rows there are.
///
/// # Panics
///
/// They are not whole rows of `inputs` numbers.
#[must_use]
pub fn product_by_rows(x: &[f32], weight: &[f32], inputs: usize) -> Buffer {
    let whole = |length: usize| inputs > 0 && length.is_multiple_of(inputs);
    assert!(whole(x.len()) && whole(weight.len()), "whole rows of {inputs}");
    let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
    let piece = (PIECE_WEIGHTS / inputs).max(1);
    // Output by output, so that every piece of work has a stretch of its own.
    let mut turned = Buffer::any(outputs * rows);
    turned.par_chunks_mut((piece * rows).max(1)).enumerate().for_each(|(index, out)| {
        let first = index * piece * inputs;
        let part = &weight[first..first + out.len() / rows * inputs];
        dot_rows(x, part, inputs, rows, out);
    });
    if rows == 1 { turned } else { turn(&turned, rows) }
}

/// Turns `[out, rows]` into `[rows, out]`.
pub(super) fn turn(turned: &[f32], rows: usize) -> Buffer {
    let outputs = turned.len() / rows.max(1);
    let mut y = Buffer::any(turned.len());
    y.par_chunks_mut(outputs.max(1)).enumerate().for_each(|(row, y)| {
        y.iter_mut().zip(turned[row..].iter().step_by(rows)).for_each(|(y, value)| *y = *value);
    });
    y
}

simd! {
    /// Writes `[out, rows]` of one piece.
    fn dot_rows(x: &[f32], weight: &[f32], inputs: usize, rows: usize, out: &mut [f32]) {
        for (weight, out) in weight.chunks_exact(inputs).zip(out.chunks_exact_mut(rows)) {
            let (groups, rest) = out.as_chunks_mut::<GROUP>();
            let (grouped, single) = x.split_at(groups.len() * GROUP * inputs);
            for (x, out) in grouped.chunks_exact(GROUP * inputs).zip(groups) {
                *out = dot_group(weight, x);
            }
            for (x, out) in single.chunks_exact(inputs).zip(rest) {
                *out = dot(weight, x);
            }
        }
    }
}

/// The inner products of a row of weights with several rows, each as [`dot`] would sum it.
#[inline(always)]
fn dot_group(weight: &[f32], x: &[f32]) -> [f32; GROUP] {
    let inputs = weight.len();
    let (weights, weights_rest) = weight.as_chunks::<LANES>();
    let row = |index: usize| x[index * inputs..(index + 1) * inputs].as_chunks::<LANES>();
    let rows = [row(0), row(1), row(2), row(3)];
    let mut lanes = [[0.0f32; LANES]; GROUP];
    for (place, weights) in weights.iter().enumerate() {
        for (lanes, (x, _)) in lanes.iter_mut().zip(&rows) {
            let x = &x[place];
            for i in 0..LANES {
                lanes[i] += weights[i] * x[i];
            }
        }
    }
    let mut sums = [0.0; GROUP];
    for ((sum, lanes), (_, rest)) in sums.iter_mut().zip(lanes).zip(&rows) {
        let rest: f32 = weights_rest.iter().zip(*rest).map(|(x, y)| x * y).sum();
        *sum = sum_lanes(lanes) + rest;
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    proptest! {
        #[test]
        fn rows_are_products_and_do_not_know_of_each_other(
            rows in 1usize..15, inputs in 1usize..90, outputs in 1usize..40, seed in 0u32..1000,
        ) {
            let (x, weight) = (values(seed, rows * inputs), values(seed + 7, outputs * inputs));
            let y = product_by_rows(&x, &weight, inputs);
            for row in 0..rows {
                let x = &x[row * inputs..(row + 1) * inputs];
                let alone = product_by_rows(x, &weight, inputs);
                prop_assert_eq!(&alone[..], &y[row * outputs..(row + 1) * outputs]);
                for (output, found) in alone.iter().enumerate() {
                    let weight = &weight[output * inputs..(output + 1) * inputs];
                    let terms = x.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    prop_assert!((terms.sum::<f64>() - f64::from(*found)).abs() < 1e-5);
                }
            }
            for (either, y) in linear_forward(&x, &weight, inputs).iter().zip(y.iter()) {
                prop_assert!((either - y).abs() < 1e-4);
            }
        }
    }
}
