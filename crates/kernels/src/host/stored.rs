//! A tensor's elements in the format that they are kept in.

use half::bf16;

use super::PIECE_ELEMENTS;
use super::codes::{CODE_BLOCK, CodeTable, decode_block, encode_block};
use super::rounding::round;

/// Elements to be read, computed with in f32, and written.
pub(crate) enum Stored<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
    /// Whole blocks of codes, of which the last may be longer than what is used of it.
    Blocks {
        codes: &'a mut [u8],
        scales: &'a mut [f32],
        table: CodeTable,
    },
}

impl<'a> Stored<'a> {
    /// The same in pieces of [`PIECE_ELEMENTS`].
    pub(crate) fn pieces(self) -> Vec<Self> {
        match self {
            Self::F32(values) => values.chunks_mut(PIECE_ELEMENTS).map(Self::F32).collect(),
            Self::Bf16(values) => values.chunks_mut(PIECE_ELEMENTS).map(Self::Bf16).collect(),
            Self::Blocks { codes, scales, table } => {
                let codes = codes.chunks_mut(PIECE_ELEMENTS);
                let scales = scales.chunks_mut(PIECE_ELEMENTS / CODE_BLOCK);
                codes
                    .zip(scales)
                    .map(|(codes, scales)| Self::Blocks { codes, scales, table })
                    .collect()
            }
        }
    }

    /// Reads the elements of a block.
    pub(crate) fn read(&self, block: usize, values: &mut [f32]) {
        let place = block * CODE_BLOCK..block * CODE_BLOCK + values.len();
        match self {
            Self::F32(stored) => values.copy_from_slice(&stored[place]),
            Self::Bf16(stored) => {
                for (value, stored) in values.iter_mut().zip(&stored[place]) {
                    *value = f32::from_bits(u32::from(stored.to_bits()) << 16);
                }
            }
            Self::Blocks { codes, scales, table } => {
                decode_block(*table, &codes[place], scales[block], values);
            }
        }
    }

    /// Writes the elements of a block; `bits` gives the random ones of each.
    #[inline(always)]
    pub(crate) fn write(&mut self, block: usize, values: &[f32], bits: impl Fn(usize) -> u32) {
        let place = block * CODE_BLOCK..block * CODE_BLOCK + values.len();
        match self {
            Self::F32(stored) => stored[place].copy_from_slice(values),
            Self::Bf16(stored) => {
                for (i, (stored, value)) in stored[place].iter_mut().zip(values).enumerate() {
                    *stored = round(*value, bits(i));
                }
            }
            Self::Blocks { codes, scales, table } => {
                scales[block] = encode_block(*table, values, &mut codes[place]);
            }
        }
    }
}
