//! The in-process engine: the chain on all cores, in bounded memory.
//!
//! First the files are read, and their documents tokenised and set aside in buckets on disk, each a
//! range of the final order; then each bucket is loaded, sorted, deduplicated and packed. Where a
//! document goes depends on its content and the seed alone, so the output does not depend on how
//! many threads there are, on which of them is faster, or on how many buckets there are.
//!
//! Peak memory is `memory_budget`, plus about 64 MiB per thread, plus some thirty times the largest
//! document per thread (the tokenizer's notes on it), plus three times the largest page of a parquet
//! file (which writers make as large as a row group) for every four threads, plus 32 bytes per
//! held-out document, plus what the items of tasks take that are looked for
//! ([`NgramIndex`](crate::chain::contamination::NgramIndex)); it does not grow with the input.

mod merge;
mod read;
mod spill;
mod tally;
mod write;

use std::path::Path;

use terrace_base::SeedStream;
use terrace_config::Format;
use terrace_data::{Counts, EditionHeader, EditionSummary, EditionWriter, Manifest, TokenType};

use crate::chain::{Chain, ContentHash};
use crate::contamination::Searched;
use crate::input::{Columns, InputFile, Queue};
use crate::observer::ProgressObserver;
use crate::{Error, Result};

use read::Division;

/// What all threads of a part share.
pub(crate) struct Shared<'a> {
    pub(crate) threads: usize,
    pub(crate) memory_budget: u64,
    pub(crate) spill_directory: &'a Path,
    pub(crate) shuffle: SeedStream,
    pub(crate) deduplicate: bool,
    /// Whether this is the held-out part.
    pub(crate) held_out: bool,
    pub(crate) observer: &'a dyn ProgressObserver,
}

impl Shared<'_> {
    /// What one thread may load of a bucket: loaded and sorted it takes about twice as much.
    fn bucket_limit(&self) -> u64 {
        (self.memory_budget / (4 * self.threads as u64)).max(1 << 10)
    }
}

/// One part of an edition: its training documents or its held-out ones.
pub(crate) struct Part<'a> {
    pub(crate) files: &'a [InputFile],
    pub(crate) chain: Chain<'a>,
    pub(crate) header: EditionHeader,
    pub(crate) partitions: u32,
    pub(crate) settings: serde_json::Value,
    /// Where the items come from that the chain looks for.
    pub(crate) searched: Option<&'a Searched>,
    pub(crate) shared: Shared<'a>,
}

/// A part that is written.
pub(crate) struct Prepared {
    pub(crate) manifest: Manifest,
    /// Content hashes, of a held-out part only.
    pub(crate) hashes: Vec<ContentHash>,
}

impl Part<'_> {
    /// Prepares the part into `directory`.
    pub(crate) fn prepare(self, directory: &Path) -> Result<Prepared> {
        let columns = Columns {
            text: self.chain.text_column.to_owned(),
            id: self.chain.id_column.map(str::to_owned),
            maximum_document_bytes: self.chain.maximum_document_bytes,
        };
        let expected = self.expected_bytes();
        let division = Division::new(self.partitions, expected, self.shared.bucket_limit());
        let queue = Queue::new(self.files, columns);
        let (buckets, tally) = read::read(self.files, &queue, &self.chain, division, &self.shared)?;

        let writer = EditionWriter::create(directory, self.header.clone())?;
        let written = write::write(buckets, division, &self.header, &writer, &self.shared)?;
        let mut counts = tally.counts;
        counts.kept = written.documents;
        counts.dropped.duplicate = written.duplicates;
        counts.windows_without_targets = written.windows_without_targets;
        assert_eq!(
            counts.read,
            counts.kept + counts.dropped.total() + counts.bad.total(),
            "every row is accounted for"
        );
        if written.shards.is_empty() {
            return Err(self.empty(counts));
        }
        let contamination = match self.searched {
            Some(searched) => {
                let source = &self.header.source;
                Some(searched.write(directory, source, self.files, &tally.found)?)
            }
            None => None,
        };
        let summary = EditionSummary {
            documents: written.documents,
            text_bytes: written.text_bytes,
            counts,
            bad_rows: tally.bad_rows(self.files),
            contamination,
            settings: self.settings,
        };
        let manifest = writer.finish(written.shards, summary)?;
        Ok(Prepared { manifest, hashes: written.hashes })
    }

    /// Bytes on disk that the tokens will take, more or less: compressed text is about a quarter
    /// of itself, and a token stands for three bytes or more.
    fn expected_bytes(&self) -> u64 {
        let text_bytes = |file: &InputFile| match file.format {
            Format::Parquet | Format::JsonlZstd | Format::JsonlGzip => file.size.saturating_mul(4),
            Format::Jsonl | Format::Arrow => file.size,
        };
        let width = match TokenType::for_vocabulary(self.header.byte_lengths.len() as u64) {
            TokenType::U16 => 2,
            TokenType::U32 => 4,
        };
        let text = self.files.iter().map(text_bytes).fold(0, u64::saturating_add);
        text / 3 * width
    }

    fn empty(&self, counts: Counts) -> Error {
        Error::Empty {
            source_name: self.header.source.clone(),
            what: if self.shared.held_out { "the held-out part" } else { "the training part" },
            counts: Box::new(counts),
        }
    }
}
