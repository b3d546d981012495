//! Eight-bit weights in a device's memory.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use half::f16;
use rayon::prelude::*;

use crate::host::INT8_BLOCK;
use crate::{Int8Matrix, int8_blocks, linear};

/// The words of a block: four integers each.
const BLOCK_WORDS: usize = INT8_BLOCK / 4;

/// A word of four integers that are all zero.
const ZEROS: u32 = 0x8080_8080;

/// A weight matrix `[out, in]` as an [`Int8Matrix`] holds it, in a device's memory: a byte for each
/// weight and a scale for every 32 along `in`.
///
/// The integers are kept 128 higher, four of a row to a word of 32 bits, the first in the lowest
/// byte: every device has words, and what an elementwise operation takes for one weight is a shift, a
/// mask, a difference and a product. A row that ends within a block is filled up with zeros.
/// Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Int8Tensor {
    /// `[out, blocks, 8, 1]`, i32.
    words: Tensor<4, Int>,
    /// `[out, blocks, 1, 1]`: half precision, or f32 on a device without it.
    scales: Tensor<4>,
    shape: [usize; 2],
}

impl Int8Tensor {
    /// Brings a matrix to a device.
    #[must_use]
    pub fn new(matrix: &Int8Matrix, device: &Device) -> Self {
        let shape @ [out, inputs] = matrix.shape();
        let blocks = int8_blocks(inputs);
        let words = TensorData::new(pack(matrix), [out, blocks, BLOCK_WORDS, 1]);
        let scales: Vec<f16> = matrix.scales().iter().map(|bits| f16::from_bits(*bits)).collect();
        let scales = TensorData::new(scales, [out, blocks, 1, 1]);
        let half = device.supports_dtype(DType::F16);
        let scales = if half { scales } else { scales.convert::<f32>() };
        let dtype = scales.dtype();
        Self {
            words: Tensor::from_data(words, (device, DType::I32)),
            scales: Tensor::from_data(scales, (device, dtype)),
            shape,
        }
    }

    /// The extents `[out, in]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The bytes of integers and scales.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let [words, scales] = [&self.words.dims(), &self.scales.dims()]
            .map(|extents| extents.iter().product::<usize>());
        4 * words + self.scales.dtype().size() * scales
    }

    /// The weights as floats, `[out, in]`: computed in f32, then brought to `dtype`.
    #[must_use]
    pub fn dequantize(&self, dtype: FloatDType) -> Tensor<2> {
        let [out, inputs] = self.shape;
        let blocks = int8_blocks(inputs);
        // One extent for each step of the way down to a weight, so that the operations are all
        // elementwise on one shape: a device's fusion makes one kernel of them.
        let shape = [out, blocks, BLOCK_WORDS, 4];
        let shifts = TensorData::new(vec![0i32, 8, 16, 24], [1, 1, 1, 4]);
        let device = self.words.device();
        let shifts = Tensor::<4, Int>::from_data(shifts, (&device, DType::I32)).expand(shape);
        let bytes = self.words.clone().expand(shape).bitwise_right_shift(shifts);
        let values = bytes.bitwise_and_scalar(255).cast(FloatDType::F32) - 128.0;
        let scales = self.scales.clone().cast(FloatDType::F32).expand(shape);
        let weights = (values * scales).cast(dtype).reshape([out, blocks * INT8_BLOCK]);
        if blocks * INT8_BLOCK == inputs { weights } else { weights.narrow(1, 0, inputs) }
    }

    /// Multiplies rows of `x` by the transposed matrix.
    ///
    /// With few rows a kernel of our own reads each integer once, where the device can run it, and
    /// sums in f32. Otherwise the matrix becomes floats of `x`'s element type, which live as long as
    /// the product takes.
    ///
    /// # Shapes
    ///
    /// `x` `[rows, in]`; gives `[rows, out]`, of the same element type.
    ///
    /// # Panics
    ///
    /// `x` has another width.
    #[must_use]
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        assert_eq!(x.dims()[1], self.shape[1], "inner extents");
        #[cfg(feature = "cube")]
        if crate::cube::serves(&x, self.shape) {
            return crate::cube::int8_rows(x, self.words.clone(), self.scales.clone());
        }
        let dtype = FloatDType::from(x.dtype());
        linear(x, self.dequantize(dtype))
    }
}

/// The integers, four to a word, rows filled up to whole blocks.
fn pack(matrix: &Int8Matrix) -> Vec<i32> {
    let [out, inputs] = matrix.shape();
    let width = int8_blocks(inputs) * BLOCK_WORDS;
    let mut words = vec![ZEROS.cast_signed(); out * width];
    words.par_chunks_mut(width).zip(matrix.values().par_chunks(inputs)).for_each(
        |(words, values)| {
            for (word, values) in words.iter_mut().zip(values.chunks(4)) {
                let mut bytes = ZEROS.to_le_bytes();
                for (byte, value) in bytes.iter_mut().zip(values) {
                    *byte ^= value.cast_unsigned();
                }
                *word = i32::from_le_bytes(bytes);
            }
        },
    );
    words
}
