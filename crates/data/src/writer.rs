use std::path::{Path, PathBuf};
use std::sync::Arc;

use terrace_base::Fingerprint;

use crate::pack::{PackedWindow, Packer};
use crate::shard_writer::{FinishedShard, ShardWriter};
use crate::{BadRow, Contamination, Counts, Error, FORMAT, Manifest, Packing, Result, TokenType};

/// What is known of an edition before its first window.
#[derive(Clone, Debug)]
pub struct EditionHeader {
    /// Name of the source.
    pub source: String,
    /// Targets per window.
    pub sequence_length: usize,
    /// How documents are laid into windows.
    pub packing: Packing,
    /// The token that ends each document, if one does.
    pub eos_token_id: Option<u32>,
    /// Fingerprint of the tokenizer.
    pub tokenizer: Fingerprint,
    /// Bytes of text of each id, as the tokenizer says; its length is the vocabulary's size.
    pub byte_lengths: Arc<[u32]>,
}

/// What is known of an edition after its last window, beside its shards.
#[derive(Clone, Debug, Default)]
pub struct EditionSummary {
    /// Documents in the windows.
    pub documents: u64,
    /// Bytes of text of the documents.
    pub text_bytes: u64,
    /// What became of every row that was read.
    pub counts: Counts,
    /// The first bad rows, by file and row.
    pub bad_rows: Vec<BadRow>,
    /// What documents share with the items of evaluation tasks.
    pub contamination: Option<Contamination>,
    /// Everything that decides the content.
    pub settings: serde_json::Value,
}

/// Writes an edition into a folder, shard by shard; shards can be written from many threads.
pub struct EditionWriter {
    directory: PathBuf,
    header: EditionHeader,
    token_type: TokenType,
}

impl EditionWriter {
    /// Starts an edition in `directory`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn create(directory: &Path, header: EditionHeader) -> Result<Self> {
        terrace_base::fs::create_dir_all(directory)
            .map_err(|source| Error::Write { path: directory.to_owned(), source })?;
        let token_type = TokenType::for_vocabulary(header.byte_lengths.len() as u64);
        Ok(Self { directory: directory.to_owned(), header, token_type })
    }

    /// Starts the shard with this number; the number is its place in the edition.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn shard(&self, number: usize) -> Result<ShardWriter> {
        let name = format!("shard-{number:05}.arrow");
        ShardWriter::create(&self.directory, name, &self.header, self.token_type)
    }

    /// Writes the manifest, which makes the folder an edition; `shards` in any order.
    ///
    /// # Errors
    ///
    /// The manifest cannot be written.
    pub fn finish(
        self,
        mut shards: Vec<FinishedShard>,
        summary: EditionSummary,
    ) -> Result<Manifest> {
        shards.sort_by(|a, b| a.entry.file.cmp(&b.entry.file));
        let sum = |count: fn(&FinishedShard) -> u64| shards.iter().map(count).sum::<u64>();
        let windows = sum(|shard| shard.entry.windows);
        let sequence_length = self.header.sequence_length as u64;
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            source: self.header.source,
            sequence_length,
            packing: self.header.packing,
            windows,
            tokens: windows * sequence_length,
            documents: summary.documents,
            target_tokens: sum(|shard| shard.target_tokens),
            target_bytes: sum(|shard| shard.target_bytes),
            text_bytes: summary.text_bytes,
            vocab_size: self.header.byte_lengths.len() as u64,
            tokenizer: self.header.tokenizer,
            eos_token_id: self.header.eos_token_id,
            token_type: self.token_type,
            shards: shards.into_iter().map(|shard| shard.entry).collect(),
            counts: summary.counts,
            bad_rows: summary.bad_rows,
            contamination: summary.contamination,
            settings: summary.settings,
            fingerprint: Fingerprint([0; 32]),
        };
        manifest.write(&self.directory)?;
        Ok(manifest)
    }
}

/// Packs token documents that are in memory into an edition of one shard; `prepare` is for
/// everything that is not.
///
/// # Errors
///
/// A file cannot be written.
pub fn write_documents(
    directory: &Path,
    header: EditionHeader,
    documents: &[Vec<u32>],
) -> Result<Manifest> {
    let mut packer = Packer::new(header.packing, header.sequence_length);
    let bytes_of = |document: &Vec<u32>| -> u64 {
        document.iter().map(|&id| u64::from(header.byte_lengths[id as usize])).sum()
    };
    let text_bytes = documents.iter().map(bytes_of).sum();
    let writer = EditionWriter::create(directory, header)?;
    let mut shard = writer.shard(0)?;
    let mut emit = |window: PackedWindow| shard.push(&window);
    for document in documents {
        packer.push(document, &mut emit)?;
    }
    let windows_without_targets = packer.finish(&mut emit)?;
    let shard = shard.finish()?;
    let count = documents.len() as u64;
    let counts = Counts { read: count, kept: count, windows_without_targets, ..Counts::default() };
    let summary = EditionSummary { documents: count, text_bytes, counts, ..Default::default() };
    writer.finish(vec![shard], summary)
}
