//! First phase: from files to buckets, on all cores.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use arrow::array::AsArray;

use super::Shared;
use super::merge::bits_of;
use super::spill::{Bucket, Spill};
use super::tally::Tally;
use crate::chain::columns::{TOKENS, column};
use crate::chain::{Chain, ContentHash, partition_of, sort_key};
use crate::input::{Batch, InputFile, Queue};
use crate::observer::{Phase, Progress};
use crate::{Error, Result};

/// How documents are divided into buckets: by shard, and within a shard by the first bits of the
/// sort key, so that the buckets of a shard one after the other are the shard in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    pub(super) partitions: u32,
    pub(super) bits: u32,
}

impl Division {
    /// As many buckets as make each about `limit` bytes, if `bytes` are to be expected; a wrong
    /// guess costs time, not memory, for a bucket that is too large is split later.
    pub(super) fn new(partitions: u32, bytes: u64, limit: u64) -> Self {
        let wanted = bytes.div_ceil(limit.saturating_mul(u64::from(partitions)).max(1));
        let most = (4096 / partitions).max(1);
        let parts = wanted.clamp(1, u64::from(most)).next_power_of_two();
        Self { partitions, bits: parts.ilog2() }
    }

    fn buckets(self) -> usize {
        (self.partitions as usize) << self.bits
    }

    fn bucket_of(self, hash: &ContentHash, shared: &Shared<'_>) -> usize {
        let partition = partition_of(hash, self.partitions) as usize;
        (partition << self.bits) + bits_of(sort_key(hash, shared.shuffle), 0, self.bits)
    }
}

/// Reads all files and sets their documents aside in buckets.
pub(super) fn read(
    files: &[InputFile],
    queue: &Queue<'_>,
    chain: &Chain<'_>,
    division: Division,
    shared: &Shared<'_>,
) -> Result<(Vec<Bucket>, Tally)> {
    let reading = Reading {
        chain,
        files,
        division,
        shared,
        spill: Spill::create(shared.spill_directory, division.buckets(), shared.memory_budget / 4)?,
        tally: Mutex::default(),
        failure: Mutex::new(None),
        failed: AtomicBool::new(false),
        bytes_total: files.iter().map(|file| file.size).sum(),
        bytes: AtomicU64::new(0),
        documents: AtomicU64::new(0),
        tokens: AtomicU64::new(0),
    };
    // Decompressing and splitting is several times faster than tokenising.
    let readers = shared.threads.div_ceil(4);
    let (sender, receiver) = sync_channel(shared.threads);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            let sender = sender.clone();
            scope.spawn(|| reading.read(queue, sender));
        }
        drop(sender);
        for _ in 0..shared.threads {
            scope.spawn(|| reading.process(&receiver));
        }
    });
    if let Some(error) = reading.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let tally = reading.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((reading.spill.finish()?, tally))
}

struct Reading<'a> {
    chain: &'a Chain<'a>,
    files: &'a [InputFile],
    division: Division,
    shared: &'a Shared<'a>,
    spill: Spill,
    tally: Mutex<Tally>,
    /// The first error; whoever meets one has all others stop.
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    bytes_total: u64,
    bytes: AtomicU64,
    documents: AtomicU64,
    tokens: AtomicU64,
}

impl Reading<'_> {
    fn read(&self, queue: &Queue<'_>, sender: SyncSender<Batch>) {
        let result = queue.drain(&mut |batch| {
            Ok(!self.failed.load(Ordering::Relaxed) && sender.send(batch).is_ok())
        });
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn process(&self, receiver: &Mutex<Receiver<Batch>>) {
        loop {
            let received = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = received else { return };
            // After a failure the channel is emptied, so that no reader waits for room in it.
            if !self.failed.load(Ordering::Relaxed)
                && let Err(error) = self.process_batch(batch)
            {
                self.fail(error);
            }
        }
    }

    fn process_batch(&self, batch: Batch) -> Result<()> {
        let processed = self.chain.apply(batch.rows).map_err(|refused| Error::Tokenize {
            file: self.files[refused.file as usize].place.clone(),
            row: refused.row,
            source: refused.source,
        })?;
        let documents = &processed.documents;
        self.spill.add(documents, |hash| Some(self.division.bucket_of(hash, self.shared)))?;
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(&processed);

        let tokens = column(documents, TOKENS).as_list::<i32>().values().len() as u64;
        let add = |sum: &AtomicU64, more: u64| sum.fetch_add(more, Ordering::Relaxed) + more;
        self.shared.observer.progress(&Progress {
            phase: Phase::Reading,
            held_out: self.shared.held_out,
            bytes_done: add(&self.bytes, batch.bytes).min(self.bytes_total),
            bytes_total: self.bytes_total,
            documents: add(&self.documents, processed.counts.read),
            tokens: add(&self.tokens, tokens),
        });
        Ok(())
    }

    fn fail(&self, error: Error) {
        self.failed.store(true, Ordering::Relaxed);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_the_input_up_to_a_bound() {
        let bits = |partitions, bytes, limit| Division::new(partitions, bytes, limit).bits;
        assert_eq!(bits(16, 0, 1 << 20), 0);
        assert_eq!(bits(16, 16 << 20, 1 << 20), 0);
        assert_eq!(bits(16, 64 << 20, 1 << 20), 2);
        assert_eq!(bits(16, u64::MAX, 1), 8);
        assert_eq!(bits(5000, u64::MAX, 1), 0);
    }
}
