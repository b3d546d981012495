//! What AdamW remembers of a parameter, in one of three number formats.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::host::is_host;
pub use crate::host::{CODE_BLOCK, CodeTable};

/// The number format of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MomentFormat {
    /// Single precision.
    #[default]
    F32,
    /// The upper half of single precision, rounded stochastically.
    Bf16,
    /// A byte for each element and a scale for each block of [`CODE_BLOCK`].
    Int8,
}

impl MomentFormat {
    /// Below this many elements a tensor's moments stay in f32: they save nothing.
    ///
    /// # Source
    ///
    /// The threshold of Dettmers et al. 2022 (arXiv 2110.02861).
    pub const SMALLEST: usize = 4096;

    /// The format of a tensor of this shape: a matrix's, while those of norms and small tensors are f32.
    #[must_use]
    pub fn of_shape(self, [rows, columns]: [usize; 2]) -> Self {
        if rows == 1 || rows * columns < Self::SMALLEST { Self::F32 } else { self }
    }
}

/// The running moments of one parameter tensor, in its shape.
#[derive(Clone, Debug)]
pub struct Moments {
    /// The running mean of the gradient.
    pub first: Moment,
    /// The running mean of the squared gradient.
    pub second: Moment,
}

/// One moment of one parameter tensor.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of handles for each parameter")]
pub enum Moment {
    /// Floats, f32 or bf16.
    Float(Tensor<2>),
    /// Bytes with scales.
    Blocks(MomentBlocks),
}

/// A moment as codes: each of a block's elements is a number of a table times the block's scale, which
/// is the largest of their magnitudes.
///
/// # Source
///
/// Dettmers et al. 2022 (arXiv 2110.02861), with blocks of 256. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct MomentBlocks {
    /// Four codes to a word, the first in the lowest byte, `[blocks · 64]`, i32.
    pub(crate) words: Tensor<1, Int>,
    /// `[blocks]`, f32.
    pub(crate) scales: Tensor<1>,
    pub(crate) table: CodeTable,
}

impl Moments {
    /// Moments of zero for a parameter of this shape.
    #[must_use]
    pub fn zeros(shape: [usize; 2], format: MomentFormat, device: &Device) -> Self {
        let zero = |table: CodeTable| match format.of_shape(shape) {
            MomentFormat::F32 => Moment::Float(Tensor::zeros(shape, (device, DType::F32))),
            MomentFormat::Bf16 => Moment::Float(Tensor::zeros(shape, (device, DType::BF16))),
            MomentFormat::Int8 => {
                let blocks = (shape[0] * shape[1]).div_ceil(CODE_BLOCK);
                let codes = vec![table.zero(); blocks * CODE_BLOCK];
                Moment::Blocks(MomentBlocks::new(&codes, vec![0.0; blocks], table, device))
            }
        };
        Self { first: zero(CodeTable::Signed), second: zero(CodeTable::Unsigned) }
    }

    /// Both moments as f32, `shape` being the parameter's: for tests and for other formats.
    #[must_use]
    pub fn to_f32(&self, shape: [usize; 2]) -> [Tensor<2>; 2] {
        [&self.first, &self.second].map(|moment| match moment {
            Moment::Float(tensor) => tensor.clone().cast(DType::F32),
            Moment::Blocks(blocks) => blocks.to_f32(shape),
        })
    }
}

impl MomentBlocks {
    /// Brings codes, [`CODE_BLOCK`] for each scale, to a device.
    ///
    /// # Panics
    ///
    /// There are more codes than scales have blocks, or fewer.
    #[must_use]
    pub fn new(codes: &[u8], scales: Vec<f32>, table: CodeTable, device: &Device) -> Self {
        assert_eq!(codes.len(), scales.len() * CODE_BLOCK, "whole blocks");
        let (words, _) = codes.as_chunks();
        let words: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
        let words = TensorData::new(words, [codes.len() / 4]);
        let count = scales.len();
        Self {
            words: Tensor::from_data(words, (device, DType::I32)),
            scales: Tensor::from_data(TensorData::new(scales, [count]), (device, DType::F32)),
            table,
        }
    }

    /// The codes, one to a byte, and the scales.
    #[must_use]
    pub fn to_host(&self) -> (Vec<u8>, Vec<f32>) {
        // SYNC: the state has to come to the host to be saved.
        let words: Vec<i32> = self.words.clone().into_data().try_to_vec().expect("words are i32");
        let scales = self.scales.clone().into_data().try_to_vec().expect("scales are f32");
        (words.into_iter().flat_map(i32::to_le_bytes).collect(), scales)
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.scales.dims()[0]
    }

    /// Where the codes are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.scales.device()
    }

    /// Whether they are in the host's memory.
    #[must_use]
    pub fn is_on_host(&self) -> bool {
        is_host(&self.device())
    }

    fn to_f32(&self, shape: [usize; 2]) -> Tensor<2> {
        let (codes, scales) = self.to_host();
        let values = self.table.values();
        let decoded = codes.chunks_exact(CODE_BLOCK).zip(scales).flat_map(|(block, scale)| {
            block.iter().map(move |code| values[usize::from(*code)] * scale)
        });
        let values: Vec<f32> = decoded.take(shape[0] * shape[1]).collect();
        Tensor::from_data(TensorData::new(values, shape), &self.device())
    }
}
