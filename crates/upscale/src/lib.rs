//! Layer analysis, and a layer map turned into a new checkpoint by renaming tensors.

pub mod analysis;
pub mod write;
