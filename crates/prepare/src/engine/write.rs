//! Second phase: from buckets to shards, on all cores.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use terrace_data::pack::{PackedWindow, Packer};
use terrace_data::{EditionHeader, EditionWriter, FinishedShard, ShardWriter};

use super::Shared;
use super::merge::{Document, Merge};
use super::read::Division;
use super::spill::Bucket;
use crate::chain::ContentHash;
use crate::observer::{Phase, Progress};
use crate::{Error, Result};

/// The shards, and what went into them.
#[derive(Default)]
pub(super) struct Written {
    pub(super) shards: Vec<FinishedShard>,
    pub(super) documents: u64,
    pub(super) text_bytes: u64,
    pub(super) duplicates: u64,
    pub(super) windows_without_targets: u64,
    /// Content hashes of the documents, if they were asked for.
    pub(super) hashes: Vec<ContentHash>,
}

/// Puts the buckets of each shard in order, packs them and writes the shard.
pub(super) fn write(
    buckets: Vec<Bucket>,
    division: Division,
    header: &EditionHeader,
    writer: &EditionWriter,
    shared: &Shared<'_>,
) -> Result<Written> {
    let per_shard = 1 << division.bits;
    let bytes_total = buckets.iter().map(Bucket::bytes).sum();
    let mut buckets = buckets.into_iter();
    let shards: Vec<_> = (0..division.partitions)
        .map(|_| Mutex::new(Some(buckets.by_ref().take(per_shard).collect::<Vec<_>>())))
        .collect();
    let writing = Writing {
        header,
        writer,
        shared,
        bytes_total,
        bits: division.bits,
        bytes: AtomicU64::new(0),
        documents: AtomicU64::new(0),
        tokens: AtomicU64::new(0),
    };
    let next = AtomicUsize::new(0);
    let done: Mutex<Result<Written>> = Mutex::new(Ok(Written::default()));
    std::thread::scope(|scope| {
        for _ in 0..shared.threads.min(shards.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(shard) = shards.get(number) else { return };
                    let buckets = shard.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let buckets = buckets.expect("each number is given out once");
                    let written = writing.write_shard(number, buckets);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    join(&mut done, written);
                    if done.is_err() {
                        return;
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn join(sum: &mut Result<Written>, more: Result<Written>) {
    match (&mut *sum, more) {
        (Ok(sum), Ok(more)) => {
            sum.shards.extend(more.shards);
            sum.documents += more.documents;
            sum.text_bytes += more.text_bytes;
            sum.duplicates += more.duplicates;
            sum.windows_without_targets += more.windows_without_targets;
            sum.hashes.extend(more.hashes);
        }
        (Ok(_), Err(error)) => *sum = Err(error),
        (Err(_), _) => {}
    }
}

struct Writing<'a> {
    header: &'a EditionHeader,
    writer: &'a EditionWriter,
    shared: &'a Shared<'a>,
    bits: u32,
    bytes_total: u64,
    bytes: AtomicU64,
    documents: AtomicU64,
    tokens: AtomicU64,
}

impl Writing<'_> {
    fn write_shard(&self, number: usize, buckets: Vec<Bucket>) -> Result<Written> {
        let merge = Merge {
            shuffle: self.shared.shuffle,
            deduplicate: self.shared.deduplicate,
            limit: self.shared.bucket_limit(),
            directory: self.shared.spill_directory,
        };
        let mut written = Written::default();
        let mut shard = None;
        let mut packer = Packer::new(self.header.packing, self.header.sequence_length);
        let mut tokens = Vec::new();
        let mut token_count = 0;
        let mut documents_before = 0;
        for bucket in buckets {
            let bytes = bucket.bytes();
            written.duplicates +=
                merge.visit(bucket, self.bits, &mut |document: &Document<'_>| {
                    written.documents += 1;
                    written.text_bytes += u64::from(document.text_bytes);
                    if self.shared.held_out {
                        written.hashes.push(document.hash);
                    }
                    tokens.clear();
                    tokens.extend(document.tokens.iter());
                    token_count += tokens.len() as u64;
                    packer.push(&tokens, &mut |window| self.emit(number, &mut shard, &window))
                })?;
            self.report(bytes, written.documents - documents_before, token_count);
            documents_before = written.documents;
            token_count = 0;
        }
        let skipped = packer.finish(&mut |window| self.emit(number, &mut shard, &window))?;
        written.windows_without_targets = skipped;
        written.shards.extend(shard.map(ShardWriter::finish).transpose()?);
        Ok(written)
    }

    /// A shard without windows has no file.
    fn emit(
        &self,
        number: usize,
        shard: &mut Option<ShardWriter>,
        window: &PackedWindow,
    ) -> Result<()> {
        let shard = match shard {
            Some(shard) => shard,
            None => shard.insert(self.writer.shard(number)?),
        };
        shard.push(window).map_err(Error::from)
    }

    fn report(&self, bytes: u64, documents: u64, tokens: u64) {
        let add = |sum: &AtomicU64, more: u64| sum.fetch_add(more, Ordering::Relaxed) + more;
        self.shared.observer.progress(&Progress {
            phase: Phase::Writing,
            held_out: self.shared.held_out,
            bytes_done: add(&self.bytes, bytes),
            bytes_total: self.bytes_total,
            documents: add(&self.documents, documents),
            tokens: add(&self.tokens, tokens),
        });
    }
}
