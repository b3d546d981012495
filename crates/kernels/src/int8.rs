//! Weights as eight-bit integers, for inference.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{FloatDType, Tensor, TensorData};
use half::f16;
use rayon::prelude::*;

use crate::host::{
    Buffer, HostTensor, INT8_BLOCK, Int8View, dequantize, holds_f32, int8_product_by_rows,
    int8_product_by_tiles, quantize,
};
use crate::linear;

/// Up to as many rows the integers are multiplied as they are; with more, bringing them to f32 first
/// costs less than what the faster product gains.
const FEW_ROWS: usize = 64;

/// A weight matrix `[out, in]` of integers between -127 and 127, in blocks of 32 along `in`, each
/// with a scale in half precision: a weight is its integer times its block's scale.
///
/// Where `in` is no multiple of 32 the last block of each row is shorter. Inputs stay f32: nothing
/// but the weights is rounded. Cloning shares the bytes.
///
/// # Source
///
/// The arrangement is that of Q8_0 in `ggml`, with integers and scales apart.
#[derive(Clone)]
pub struct Int8Matrix {
    values: Values,
    /// `[out, ceil(in / 32)]`, half precision.
    scales: Arc<[u16]>,
    shape: [usize; 2],
}

/// The integers, or the part of some bytes that holds them.
#[derive(Clone)]
struct Values {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

/// Why a matrix cannot be had in eight bits.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Int8Error {
    /// A weight is infinite or no number.
    #[error("the weight in row {row}, column {column} is {value}")]
    NotFinite {
        /// Its output.
        row: usize,
        /// Its input.
        column: usize,
        /// What it is.
        value: f32,
    },
    /// A weight is so large that its block's scale does not fit half precision.
    #[error(
        "the weight {value} in row {row}, column {column} is too large: scales of 16 bits reach \
         {}",
        largest()
    )]
    TooLarge {
        /// Its output.
        row: usize,
        /// Its input.
        column: usize,
        /// What it is.
        value: f32,
    },
    /// Integers or scales are not as many as the shape calls for.
    #[error("found {found} {what}, expected {expected} for the shape {shape:?}")]
    Count {
        /// Which of the two.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
        /// `[out, in]`.
        shape: [usize; 2],
    },
    /// A scale is negative, infinite or no number.
    #[error("the scale of row {row}, block {block} is {value}")]
    Scale {
        /// Its output.
        row: usize,
        /// Its block.
        block: usize,
        /// What it is.
        value: f32,
    },
}

impl Int8Error {
    /// The same for rows that have `rows` others above them.
    #[must_use]
    pub fn below(mut self, rows: usize) -> Self {
        if let Self::NotFinite { row, .. } | Self::TooLarge { row, .. } | Self::Scale { row, .. } =
            &mut self
        {
            *row += rows;
        }
        self
    }
}

/// The largest magnitude that has a scale.
fn largest() -> f32 {
    f16::MAX.to_f32() * 127.0
}

/// The blocks of a row of `inputs` weights.
#[must_use]
pub fn int8_blocks(inputs: usize) -> usize {
    inputs.div_ceil(INT8_BLOCK)
}

/// Rounds rows of weights: gives the integers, `[out, in]`, and the scales' bits,
/// `[out, ceil(in / 32)]`.
///
/// The scale is the block's largest magnitude divided by 127, in half precision, and integers are
/// rounded to nearest, ties to even: no weight moves by more than half a scale.
///
/// # Errors
///
/// A weight is not finite or beyond what a scale in half precision reaches.
///
/// # Panics
///
/// `rows` are not whole rows of `inputs` weights.
pub fn int8_quantize(rows: &[f32], inputs: usize) -> Result<(Vec<i8>, Vec<u16>), Int8Error> {
    assert!(inputs > 0 && rows.len().is_multiple_of(inputs), "whole rows of {inputs}");
    let scales = rows
        .par_chunks(inputs)
        .enumerate()
        .flat_map_iter(|(row, weights)| {
            let blocks = weights.chunks(INT8_BLOCK).enumerate();
            blocks.map(move |(block, weights)| scale(weights, row, block * INT8_BLOCK))
        })
        .collect::<Result<Vec<u16>, Int8Error>>()?;
    let mut values = vec![0; rows.len()];
    quantize(rows, &scales, inputs, &mut values);
    Ok((values, scales))
}

/// The bits of the scale of a block that begins at `first`.
fn scale(weights: &[f32], row: usize, first: usize) -> Result<u16, Int8Error> {
    let mut top = 0.0f32;
    for (offset, value) in weights.iter().enumerate() {
        let (column, value) = (first + offset, *value);
        if !value.is_finite() {
            return Err(Int8Error::NotFinite { row, column, value });
        }
        if value.abs() > largest() {
            return Err(Int8Error::TooLarge { row, column, value });
        }
        top = top.max(value.abs());
    }
    let nearest = f16::from_f32(top / 127.0);
    // Among the smallest numbers of half precision the nearest may be far too small, or zero.
    let bits = nearest.to_bits() + u16::from(top > 127.5 * nearest.to_f32());
    Ok(bits)
}

impl Int8Matrix {
    /// Rounds a matrix, as [`int8_quantize`] does.
    ///
    /// # Errors
    ///
    /// As [`int8_quantize`].
    ///
    /// # Panics
    ///
    /// There are not as many weights as the shape calls for, or an extent is zero.
    pub fn quantize(weights: &[f32], shape: [usize; 2]) -> Result<Self, Int8Error> {
        assert_eq!(weights.len(), shape[0] * shape[1], "a whole matrix");
        let (values, scales) = int8_quantize(weights, shape[1])?;
        let bytes: Vec<u8> = values.into_iter().map(i8::cast_unsigned).collect();
        let range = 0..bytes.len();
        Self::from_bytes(Arc::new(bytes), range, scales, shape)
    }

    /// Takes the integers from a part of some bytes (a mapped file, say), which are shared and not
    /// copied, and the bits of the scales.
    ///
    /// # Errors
    ///
    /// They are not as many as the shape calls for, or a scale is not a finite number from zero up.
    ///
    /// # Panics
    ///
    /// `range` is not within the bytes, or an extent is zero.
    pub fn from_bytes(
        bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
        range: Range<usize>,
        scales: Vec<u16>,
        shape: [usize; 2],
    ) -> Result<Self, Int8Error> {
        assert!(shape[0] > 0 && shape[1] > 0, "a matrix has rows and columns");
        assert!(range.end <= (*bytes).as_ref().len(), "the integers are within the bytes");
        let blocks = int8_blocks(shape[1]);
        let count = |what, found, expected| {
            if found == expected {
                Ok(())
            } else {
                Err(Int8Error::Count { what, found, expected, shape })
            }
        };
        count("integers", range.len(), shape[0] * shape[1])?;
        count("scales", scales.len(), shape[0] * blocks)?;
        // The sign is the highest bit, so this refuses negative scales as well.
        if let Some(place) = scales.iter().position(|bits| *bits >= f16::INFINITY.to_bits()) {
            let value = f16::from_bits(scales[place]).to_f32();
            return Err(Int8Error::Scale { row: place / blocks, block: place % blocks, value });
        }
        Ok(Self { values: Values { bytes, range }, scales: scales.into(), shape })
    }

    /// The extents `[out, in]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The bytes of integers and scales.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.range.len() + 2 * self.scales.len()
    }

    /// The integers, row by row, `[out, in]`.
    #[must_use]
    pub fn values(&self) -> &[i8] {
        let bytes = &(*self.values.bytes).as_ref()[self.values.range.clone()];
        #[expect(unsafe_code, reason = "bytes of a file as signed ones")]
        // SAFETY: both have one byte, any bits are a value of either, and the borrow is the same.
        unsafe {
            std::slice::from_raw_parts(bytes.as_ptr().cast::<i8>(), bytes.len())
        }
    }

    /// The bits of the scales in half precision, `[out, ceil(in / 32)]`.
    #[must_use]
    pub fn scales(&self) -> &[u16] {
        &self.scales
    }

    /// The weights in f32, row by row: each exactly its integer times its scale.
    #[must_use]
    pub fn dequantize(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.shape[0] * self.shape[1]];
        dequantize(self.view(), &mut weights);
        weights
    }

    /// Multiplies rows of `x` by the transposed matrix: what [`linear`] gives for the dequantised
    /// weights, but for the order of the sums.
    ///
    /// In the host's memory few rows are multiplied without bringing the weights to f32, and many
    /// a tile of weights at a time. Elsewhere the weights are brought to f32 and to the device for
    /// every call: [`Int8Tensor`](crate::Int8Tensor) is for other devices.
    ///
    /// # Shapes
    ///
    /// `x` `[rows, in]`, f32; gives `[rows, out]`.
    ///
    /// # Panics
    ///
    /// `x` has another width.
    #[must_use]
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        if x.dims()[0] <= FEW_ROWS {
            return self.linear_by_rows(x);
        }
        self.product(x, int8_product_by_tiles)
    }

    /// The same, in the host's memory always as for few rows: a row's result is the same to the last
    /// bit whatever other rows there are.
    ///
    /// # Shapes
    ///
    /// `x` `[rows, in]`, f32; gives `[rows, out]`.
    ///
    /// # Panics
    ///
    /// `x` has another width.
    #[must_use]
    pub fn linear_by_rows(&self, x: Tensor<2>) -> Tensor<2> {
        self.product(x, int8_product_by_rows)
    }

    fn product(
        &self,
        x: Tensor<2>,
        on_host: impl FnOnce(&[f32], Int8View<'_>) -> Buffer,
    ) -> Tensor<2> {
        let (device, [rows, width]) = (x.device(), x.dims());
        assert_eq!(width, self.shape[1], "inner extents");
        if holds_f32(&x) {
            return on_host(&HostTensor::new(x), self.view())
                .into_tensor([rows, self.shape[0]], &device);
        }
        let weights = TensorData::new(self.dequantize(), self.shape);
        let weights = Tensor::<2>::from_data(weights, &device);
        let dtype = FloatDType::from(x.dtype());
        linear(x, weights.cast(dtype))
    }

    fn view(&self) -> Int8View<'_> {
        Int8View { values: self.values(), scales: &self.scales, inputs: self.shape[1] }
    }
}

/// Multiplies rows by a weight matrix of integers; the same as [`Int8Matrix::linear`].
///
/// # Shapes
///
/// `x` `[rows, in]`, `weight` `[out, in]`; gives `[rows, out]`.
#[must_use]
pub fn int8_linear(x: Tensor<2>, weight: &Int8Matrix) -> Tensor<2> {
    weight.linear(x)
}

impl fmt::Debug for Int8Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Int8Matrix").field("shape", &self.shape).finish_non_exhaustive()
    }
}
