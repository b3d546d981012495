//! Laying documents into windows.
//!
//! A window holds `sequence_length + 1` tokens, so that each of its `sequence_length` positions
//! can have a target. Whatever the packing, every token of a document but its first is a target
//! exactly once, and no target belongs to another document than its position.

mod best_fit;
mod concat;

pub use best_fit::BestFit;
pub use concat::ConcatAndChunk;

use crate::Packing;

/// A window before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedWindow {
    /// `sequence_length + 1` ids, padded with 0.
    pub tokens: Vec<u32>,
    /// Offsets at which a document's piece begins, ascending, the first 0.
    pub document_starts: Vec<u32>,
    /// How many tokens are real.
    pub length: u32,
}

impl PackedWindow {
    /// Pads the pieces to a window; `None` when no position would have a target.
    fn close(mut tokens: Vec<u32>, document_starts: Vec<u32>, capacity: usize) -> Option<Self> {
        debug_assert!(tokens.len() <= capacity && document_starts.first() == Some(&0));
        if tokens.len() == document_starts.len() {
            return None;
        }
        let length = offset(tokens.len());
        tokens.resize(capacity, 0);
        Some(Self { tokens, document_starts, length })
    }
}

/// Turns a stream of documents into windows, in bounded memory.
#[derive(Debug)]
pub enum Packer {
    /// One stream, cut every `sequence_length` tokens.
    ConcatAndChunk(ConcatAndChunk),
    /// Whole documents where they fit.
    BestFit(BestFit),
}

impl Packer {
    /// Starts a packer for windows of `sequence_length` targets.
    #[must_use]
    pub fn new(packing: Packing, sequence_length: usize) -> Self {
        match packing {
            Packing::ConcatAndChunk => Self::ConcatAndChunk(ConcatAndChunk::new(sequence_length)),
            Packing::BestFit => Self::BestFit(BestFit::new(sequence_length)),
        }
    }

    /// Adds a document and hands every window that is complete to `emit`.
    ///
    /// # Errors
    ///
    /// What `emit` reports.
    pub fn push<E>(
        &mut self,
        document: &[u32],
        emit: &mut impl FnMut(PackedWindow) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::ConcatAndChunk(packer) => packer.push(document, emit),
            Self::BestFit(packer) => packer.push(document, emit),
        }
    }

    /// Hands out what is left, padded; returns how many windows were not handed out because no
    /// position in them had a target (a document of one token teaches nothing by itself).
    ///
    /// # Errors
    ///
    /// What `emit` reports.
    pub fn finish<E>(self, emit: &mut impl FnMut(PackedWindow) -> Result<(), E>) -> Result<u64, E> {
        match self {
            Self::ConcatAndChunk(packer) => packer.finish(emit),
            Self::BestFit(packer) => packer.finish(emit),
        }
    }
}

fn offset(index: usize) -> u32 {
    u32::try_from(index).expect("a window is short")
}

#[cfg(test)]
mod tests;
