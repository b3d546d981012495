//! Token shards to windows to batches.
//!
//! A *source* at rest is an [`Edition`]: a folder of Arrow IPC shards, each holding packed
//! *windows* of `sequence_length + 1` tokens, and a manifest that names and hashes them. An
//! edition never changes; new data is a new edition. [`pack`] makes windows from documents,
//! [`ShardWriter`] and [`EditionWriter`] write them, [`Edition`] maps them back without copying,
//! and [`MicroBatch`] lays rows out as the model reads them.

mod batch;
mod counters;
mod edition;
mod error;
mod manifest;
pub mod pack;
mod schema;
mod shard;
mod shard_writer;
mod verify;
mod window;
mod writer;

pub use batch::{MicroBatch, NO_TARGET, step_digest};
pub use counters::{TargetCounts, count_targets};
pub use edition::{Edition, Sources, held_out_directory};
pub use error::{Error, Result};
pub use manifest::{
    BadRow, BadRowKind, BadRows, Contamination, Counts, Dropped, FORMAT, FileEntry, MANIFEST_FILE,
    Manifest, Packing, ShardEntry, TaskContamination, TokenType,
};
pub use schema::window_schema;
pub use shard_writer::{FinishedShard, ShardWriter};
pub use verify::verify;
pub use window::{TokenSlice, Window};
pub use writer::{EditionHeader, EditionSummary, EditionWriter, write_documents};
