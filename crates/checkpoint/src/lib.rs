//! A directory holding a whole training state: written atomically, hashed, verified when read.
//!
//! The only crate that knows the directory layout of a run ([`RunLayout`]) and of a checkpoint:
//!
//! ```text
//! checkpoints/0000000004194304/       named by tokens seen
//!   segment-0000.safetensors …        one per model segment: weights and both moments, f32
//!   state.json                        everything else that decides the future
//!   logs.json                         how long each log was
//!   manifest.json                     written last: facts, and size and hash of every file
//! ```
//!
//! A checkpoint is written under a temporary name and appears under its own only when every byte
//! is on disk. What is read back is trusted only after its hashes have been checked:
//! [`Store::newest_valid`] is how a run resumes.

mod checkpoint;
mod error;
mod layout;
mod lock;
mod logs;
mod manifest;
mod segment;
mod store;
mod writer;

pub use checkpoint::Checkpoint;
pub use error::{Corruption, Damage, Error};
pub use layout::{RunLayout, exp_avg_name, exp_avg_sq_name, scales_name};
pub use lock::RunLock;
pub use logs::LogPositions;
pub use manifest::{Facts, FileRecord};
pub use segment::{Segment, TensorView};
pub use store::{Listing, Newest, Store};
pub use writer::{CheckpointWriter, Saved};
