//! The order of documents within a shard, and which of equal ones stays.

use arrow::array::RecordBatch;
use terrace_base::SeedStream;

use super::columns::{hashes, origins};
use super::hash::ContentHash;

/// Documents of some batches in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordering {
    /// Batch and row of each document.
    pub places: Vec<(u32, u32)>,
    /// Documents left out because an equal one is in.
    pub duplicates: u64,
}

/// Where a document stands among all others of its shard: a keyed hash of its content, so that the
/// order is a shuffle that depends on nothing but content and seed.
#[must_use]
pub fn sort_key(hash: &ContentHash, shuffle: SeedStream) -> u64 {
    shuffle.at(u64::from_le_bytes(hash[..8].try_into().expect("eight bytes")))
}

/// Which shard a document belongs to: a matter of its content alone, and of other bits of the hash
/// than those that order it.
#[must_use]
pub fn partition_of(hash: &ContentHash, partitions: u32) -> u32 {
    let bits = u64::from_le_bytes(hash[8..16].try_into().expect("eight bytes"));
    u32::try_from(bits % u64::from(partitions)).expect("below the number of partitions")
}

/// Sorts documents by key, then hash, then origin, and leaves out all but the first of equal ones
/// when asked to.
#[must_use]
pub fn order(batches: &[RecordBatch], shuffle: SeedStream, deduplicate: bool) -> Ordering {
    let mut entries = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (batch_index, batch) in (0u32..).zip(batches) {
        let (files, rows) = origins(batch);
        for (row_index, hash) in (0u32..).zip(hashes(batch)) {
            let origin = (files.value(row_index as usize), rows.value(row_index as usize));
            entries.push((sort_key(&hash, shuffle), hash, origin, (batch_index, row_index)));
        }
    }
    entries.sort_unstable();
    let before = entries.len();
    if deduplicate {
        entries.dedup_by_key(|entry| entry.1);
    }
    let duplicates = (before - entries.len()) as u64;
    Ordering { places: entries.into_iter().map(|entry| entry.3).collect(), duplicates }
}
