//! The steps from lines to a shard, timed one by one or run as prepare runs them.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt16Type, UInt32Type};
use terrace_config::{ContaminationAction, Normalization};
use terrace_data::pack::{PackedWindow, Packer};
use terrace_data::{EditionHeader, EditionWriter, Packing};
use terrace_prepare::chain::columns::TOKENS;
use terrace_prepare::chain::contamination::NgramIndex;
use terrace_prepare::chain::{
    Chain, Contaminants, LengthFilter, Refused, Rows, hash, normalize, parse_lines, tokenize,
    validate,
};
use terrace_tokenizer::Tokenizer;

use crate::error::CliError;

/// The steps in order.
pub(super) const STEPS: [&str; 9] = [
    "parse",
    "validate",
    "normalise",
    "filter",
    "hash",
    "contamination",
    "tokenise",
    "pack",
    "write",
];

const SEQUENCE_LENGTH: usize = 2048;
/// As many as a document may have by default.
const MAXIMUM_BYTES: u64 = 64 << 20;
const LENGTHS: LengthFilter = LengthFilter { minimum_characters: 1, maximum_characters: 0 };

/// What the steps are run on.
pub(super) struct Steps<'a> {
    pub(super) batches: &'a [RecordBatch],
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) index: Option<&'a NgramIndex>,
}

/// The time of each step, in seconds, and what came out.
pub(super) struct Lap {
    pub(super) seconds: [f64; STEPS.len()],
    pub(super) tokens: u64,
}

/// Gives the time since the last call to a step.
struct Watch {
    last: Instant,
    seconds: [f64; STEPS.len()],
}

impl Watch {
    fn lap(&mut self, step: usize) {
        let now = Instant::now();
        self.seconds[step] += (now - self.last).as_secs_f64();
        self.last = now;
    }
}

impl Steps<'_> {
    /// Runs all steps on this thread, into a shard in a temporary folder.
    pub(super) fn run_once(&self) -> Result<Lap, CliError> {
        let folder = tempfile::tempdir().map_err(CliError::environment)?;
        let writer = EditionWriter::create(folder.path(), self.header())?;
        let mut shard = writer.shard(0)?;
        let mut packer = Packer::new(Packing::ConcatAndChunk, SEQUENCE_LENGTH);
        let mut tokens = 0;
        let mut watch = Watch { last: Instant::now(), seconds: [0.0; STEPS.len()] };
        for batch in self.batches {
            watch.last = Instant::now();
            let (raw, _) = parse_lines(batch.clone(), "text", None);
            watch.lap(0);
            let (documents, _) = validate(raw, MAXIMUM_BYTES);
            watch.lap(1);
            let documents = normalize(documents, Normalization::Nfc);
            watch.lap(2);
            let (documents, _) = LENGTHS.apply(documents);
            watch.lap(3);
            let mut documents = hash(documents);
            watch.lap(4);
            if let Some(index) = self.index {
                documents = contaminants(index).apply(documents).0;
                watch.lap(5);
            }
            let (documents, _) = tokenize(documents, self.tokenizer, None).map_err(refused)?;
            watch.lap(6);
            let mut windows = Vec::new();
            for_each_document(&documents, |document| {
                tokens += document.len() as u64;
                let emit = &mut |window: PackedWindow| -> Result<(), CliError> {
                    windows.push(window);
                    Ok(())
                };
                packer.push(document, emit)
            })?;
            watch.lap(7);
            for window in &windows {
                shard.push(window)?;
            }
            watch.lap(8);
        }
        watch.last = Instant::now();
        packer.finish(&mut |window| shard.push(&window))?;
        black_box(shard.finish()?);
        watch.lap(8);
        Ok(Lap { seconds: watch.seconds, tokens })
    }

    /// Runs the chain as prepare does, its threads taking batch after batch.
    pub(super) fn chain(&self, index: Option<&NgramIndex>, threads: usize) -> Result<(), CliError> {
        let held_out = HashSet::new();
        let chain = Chain {
            text_column: "text",
            id_column: None,
            maximum_document_bytes: MAXIMUM_BYTES,
            normalization: Normalization::Nfc,
            lengths: LENGTHS,
            held_out: &held_out,
            contaminants: index.map(contaminants),
            tokenizer: self.tokenizer,
            eos: None,
        };
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Refused> {
            while let Some(batch) = self.batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                black_box(chain.apply(Rows::Lines(batch.clone()))?);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, Result<(), Refused>>| {
                worker.join().expect("a worker does not panic").map_err(refused)
            };
            workers.into_iter().try_for_each(join)
        })
    }

    fn header(&self) -> EditionHeader {
        EditionHeader {
            source: "bench".to_owned(),
            sequence_length: SEQUENCE_LENGTH,
            packing: Packing::ConcatAndChunk,
            eos_token_id: None,
            tokenizer: self.tokenizer.fingerprint(),
            byte_lengths: Arc::from(self.tokenizer.byte_lengths()),
        }
    }
}

fn contaminants(index: &NgramIndex) -> Contaminants<'_> {
    // Nothing is left out, so that the steps behind have the same work with and without.
    Contaminants { index, action: ContaminationAction::Flag }
}

fn refused(refused: Refused) -> CliError {
    CliError::input(refused.source)
}

fn for_each_document(
    documents: &RecordBatch,
    mut visit: impl FnMut(&[u32]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let lists = documents.column_by_name(TOKENS).expect("they are tokenised").as_list::<i32>();
    let mut tokens: Vec<u32> = Vec::new();
    for list in lists.iter().flatten() {
        tokens.clear();
        match list.as_primitive_opt::<UInt16Type>() {
            Some(ids) => tokens.extend(ids.values().iter().map(|&id| u32::from(id))),
            None => tokens.extend_from_slice(list.as_primitive::<UInt32Type>().values()),
        }
        visit(&tokens)?;
    }
    Ok(())
}
