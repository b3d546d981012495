//! Products with a matrix of eight-bit integers, and how it comes from and goes back to f32.

use rayon::prelude::*;

use super::few_rows::turn;
use super::simd::{LANES, simd, sum_lanes};
use super::{Buffer, Matrix, MatrixMut, Threads, multiply};

/// The weights along a row that share a scale.
pub const INT8_BLOCK: usize = 32;

/// The weights of one parallel piece of work.
const PIECE_WEIGHTS: usize = 1 << 16;
/// The weights that are in f32 at one time: four megabytes, about what a second cache holds.
const TILE_WEIGHTS: usize = 1 << 20;
/// A matrix `[out, in]` of integers, each row in blocks of [`INT8_BLOCK`] with a scale of 16 bits.
#[derive(Clone, Copy, Debug)]
pub struct Int8View<'a> {
    /// `[out, in]`.
    pub values: &'a [i8],
    /// The bits of IEEE 754 half precision, finite and not negative, `[out, ceil(in / 32)]`.
    pub scales: &'a [u16],
    /// The extent that a product sums over.
    pub inputs: usize,
}

impl<'a> Int8View<'a> {
    fn blocks(&self) -> usize {
        self.inputs.div_ceil(INT8_BLOCK)
    }

    fn outputs(&self) -> usize {
        self.values.len() / self.inputs
    }

    fn rows(&self, first: usize, count: usize) -> Int8View<'a> {
        let (k, blocks) = (self.inputs, self.blocks());
        Int8View {
            values: &self.values[first * k..(first + count) * k],
            scales: &self.scales[first * blocks..(first + count) * blocks],
            inputs: k,
        }
    }
}

/// The rows of a matrix that one piece of work takes.
fn piece_rows(inputs: usize) -> usize {
    (PIECE_WEIGHTS / inputs).max(1)
}

/// Multiplies each row of `x` by the transposed matrix, reading the integers once for all rows.
///
/// For few rows: the time goes into reading the matrix, which takes a quarter of the bytes of f32.
///
/// # Shapes
///
/// `x` `[rows, in]`; gives `[rows, out]`.
///
/// # Determinism
///
/// A row's result is the same to the last bit whatever other rows there are.
#[must_use]
pub fn int8_product_by_rows(x: &[f32], weight: Int8View<'_>) -> Buffer {
    let (k, outputs) = (weight.inputs, weight.outputs());
    let rows = x.len() / k;
    let piece = piece_rows(k);
    // Output by output, so that every piece of work has a stretch of its own.
    let mut turned = Buffer::any(outputs * rows);
    turned.par_chunks_mut((piece * rows).max(1)).enumerate().for_each(|(index, out)| {
        let part = weight.rows(index * piece, out.len() / rows);
        dot_rows(x, part.values, part.scales, k, rows, out);
    });
    if rows == 1 { turned } else { turn(&turned, rows) }
}

/// The same for many rows: the matrix is brought to f32 a tile at a time, and `gemm` multiplies.
///
/// # Shapes
///
/// `x` `[rows, in]`; gives `[rows, out]`.
#[must_use]
pub fn int8_product_by_tiles(x: &[f32], weight: Int8View<'_>) -> Buffer {
    let (k, outputs) = (weight.inputs, weight.outputs());
    let rows = x.len() / k;
    let tile_rows = (TILE_WEIGHTS / k).max(1);
    let mut y = Buffer::any(rows * outputs);
    let mut tile = Buffer::any(tile_rows.min(outputs) * k);
    for first in (0..outputs).step_by(tile_rows) {
        let count = tile_rows.min(outputs - first);
        let tile = &mut tile[..count * k];
        dequantize(weight.rows(first, count), tile);
        let out = MatrixMut::within(&mut y[first..], rows, count, outputs);
        let w = Matrix::new(tile, count, k).transposed();
        multiply(out, false, Matrix::new(x, rows, k), w, 1.0, Threads::All);
    }
    y
}

/// Writes the matrix in f32 to `out`, `[out, in]`. Every product of scale and integer is exact.
pub fn dequantize(weight: Int8View<'_>, out: &mut [f32]) {
    let k = weight.inputs;
    let piece = piece_rows(k);
    out.par_chunks_mut(piece * k).enumerate().for_each(|(index, out)| {
        let part = weight.rows(index * piece, out.len() / k);
        dequantize_rows(part.values, part.scales, k, out);
    });
}

/// Rounds rows of f32 to integers; `scales` has the factors of their blocks, none zero unless its
/// block is.
///
/// # Shapes
///
/// `rows` `[out, in]`, `scales` `[out, ceil(in / 32)]`; writes `values` `[out, in]`.
pub fn quantize(rows: &[f32], scales: &[u16], inputs: usize, values: &mut [i8]) {
    let (piece, blocks) = (piece_rows(inputs), inputs.div_ceil(INT8_BLOCK));
    rows.par_chunks(piece * inputs)
        .zip(values.par_chunks_mut(piece * inputs))
        .zip(scales.par_chunks(piece * blocks))
        .for_each(|((rows, values), scales)| quantize_rows(rows, scales, inputs, values));
}

simd! {
    fn quantize_rows(rows: &[f32], scales: &[u16], inputs: usize, values: &mut [i8]) {
        let scales = scales.chunks_exact(inputs.div_ceil(INT8_BLOCK));
        for ((row, values), scales) in
            rows.chunks_exact(inputs).zip(values.chunks_exact_mut(inputs)).zip(scales)
        {
            let blocks = row.chunks(INT8_BLOCK).zip(values.chunks_mut(INT8_BLOCK)).zip(scales);
            for ((weights, values), scale) in blocks {
                let scale = widen(*scale);
                if scale == 0.0 {
                    values.fill(0);
                    continue;
                }
                for (value, weight) in values.iter_mut().zip(weights) {
                    // A quotient, not a product with the reciprocal: that would round twice, and
                    // overflow for the smallest scales.
                    *value = (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
                }
            }
        }
    }
}

simd! {
    fn dequantize_rows(values: &[i8], scales: &[u16], inputs: usize, out: &mut [f32]) {
        let scales = scales.chunks_exact(inputs.div_ceil(INT8_BLOCK));
        for ((values, out), scales) in
            values.chunks_exact(inputs).zip(out.chunks_exact_mut(inputs)).zip(scales)
        {
            let blocks = values.chunks(INT8_BLOCK).zip(out.chunks_mut(INT8_BLOCK)).zip(scales);
            for ((values, out), scale) in blocks {
                let scale = widen(*scale);
                for (out, value) in out.iter_mut().zip(values) {
                    *out = scale * f32::from(*value);
                }
            }
        }
    }
}

simd! {
    /// Writes `[out, rows]` of one piece.
    fn dot_rows(
        x: &[f32], values: &[i8], scales: &[u16], inputs: usize, rows: usize, out: &mut [f32],
    ) {
        let blocks = inputs.div_ceil(INT8_BLOCK);
        let matrix = values.chunks_exact(inputs).zip(scales.chunks_exact(blocks));
        for ((values, scales), out) in matrix.zip(out.chunks_exact_mut(rows)) {
            // The integers of a row stay in the first cache for all rows of `x`.
            for (x, out) in x.chunks_exact(inputs).zip(out) {
                *out = dot(values, scales, x);
            }
        }
    }
}

/// The inner product of a row of weights with a row of `x`.
#[inline(always)]
fn dot(values: &[i8], scales: &[u16], x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks, rest) = values.as_chunks::<INT8_BLOCK>();
    let (x, x_rest) = x.as_chunks::<INT8_BLOCK>();
    for ((values, scale), x) in blocks.iter().zip(scales).zip(x) {
        let scale = widen(*scale);
        let mut weights = [0.0f32; INT8_BLOCK];
        for (weight, value) in weights.iter_mut().zip(values) {
            *weight = scale * f32::from(*value);
        }
        // Two to a lane: their sum does not wait for the lane's last one.
        for lane in 0..LANES {
            lanes[lane] += weights[lane] * x[lane] + weights[lane + LANES] * x[lane + LANES];
        }
    }
    let mut sum = 0.0;
    if !rest.is_empty() {
        let scale = widen(scales[blocks.len()]);
        for (value, x) in rest.iter().zip(x_rest) {
            sum += scale * f32::from(*value) * x;
        }
    }
    sum_lanes(lanes) + sum
}

/// The value of finite half precision that is not negative, without a branch, so that loops of it
/// are vectors: the bits are moved to their places in single precision, and the exponent's other
/// offset is made up for by a power of two. Subnormal numbers come out right as well.
#[inline(always)]
fn widen(bits: u16) -> f32 {
    const OFFSET: f32 = f32::from_bits((127 + 127 - 15) << 23);
    f32::from_bits(u32::from(bits) << 13) * OFFSET
}
