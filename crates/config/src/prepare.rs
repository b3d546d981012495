//! `PrepareConfig`: how documents become an edition, the language of `terrace prepare`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use terrace_base::Seed;

use crate::bytes::Bytes;
use crate::path;

/// How one source is prepared: which documents, how they are filtered, tokenised and packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareConfig {
    /// The name of the source, which goes into the manifest.
    pub source: String,
    /// The tokenizer's file.
    #[serde(deserialize_with = "path::deserialize")]
    pub tokenizer: PathBuf,
    /// The number of targets in one window, which stores one token more.
    pub sequence_length: usize,
    /// How documents are laid into windows.
    #[serde(default)]
    pub packing: Packing,
    /// The token that is appended to each document; empty for none.
    #[serde(default)]
    pub append_eos: String,
    /// The number that the order of documents comes from.
    #[serde(default = "default_seed")]
    pub seed: Seed,
    /// The number of shards; a document's content hash says which one it goes to.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// The column (or JSON key) that holds the text.
    #[serde(default = "default_text_column")]
    pub text_column: String,
    /// The column that identifies a document in reports of bad rows.
    #[serde(default)]
    pub id_column: Option<String>,
    /// Documents with fewer characters are dropped.
    #[serde(default)]
    pub minimum_characters: u64,
    /// Documents with more characters are dropped; 0 drops none.
    #[serde(default)]
    pub maximum_characters: u64,
    /// Documents with more bytes are counted as bad rows.
    #[serde(default = "default_document_bytes")]
    pub maximum_document_bytes: Bytes,
    /// The Unicode normalisation of the text.
    #[serde(default)]
    pub normalization: Normalization,
    /// Whether of documents with equal content only one is kept.
    #[serde(default = "yes")]
    pub deduplicate: bool,
    /// The folder for what does not fit into memory; by default inside the output.
    #[serde(default, deserialize_with = "path::deserialize_option")]
    pub spill_directory: Option<PathBuf>,
    /// The memory that the preparation may take.
    #[serde(default = "default_memory_budget")]
    pub memory_budget: Bytes,
    /// What becomes of documents that stand in evaluation tasks; by default none is looked for.
    #[serde(default)]
    pub contamination: Option<ContaminationConfig>,
    /// The documents to train on.
    pub inputs: Vec<Input>,
    /// The documents to validate on; none of them is trained on.
    #[serde(default)]
    pub held_out: Vec<Input>,
}

/// Which documents share text with the items of evaluation tasks, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContaminationConfig {
    /// Task files, or globs of them.
    #[serde(deserialize_with = "path::deserialize_locations")]
    pub tasks: Vec<String>,
    /// What becomes of a document that shares an n-gram with an item.
    #[serde(default)]
    pub action: ContaminationAction,
    /// The words that have to stand one after the other in both.
    #[serde(default = "default_ngram")]
    pub ngram: usize,
    /// A shorter passage of an item is looked for as a whole if it has so many words.
    #[serde(default = "default_minimum_words")]
    pub minimum_words: usize,
    /// An n-gram of more items is what their wording has in common, and not looked for.
    #[serde(default = "default_maximum_items")]
    pub maximum_items: usize,
}

/// What becomes of a document that shares an n-gram with an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContaminationAction {
    /// It is left out.
    #[default]
    Drop,
    /// It stays, and the items that it shares text with are noted.
    Flag,
}

impl ContaminationConfig {
    /// The lengths that n-grams may have, in words: shorter ones stand everywhere.
    pub const NGRAMS: std::ops::RangeInclusive<usize> = 5..=64;
}

/// Files of documents in one format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Files, globs, folders or URLs.
    #[serde(deserialize_with = "path::deserialize_locations")]
    pub paths: Vec<String>,
    /// The format of the files; by default what their names end in.
    #[serde(default)]
    pub format: Option<Format>,
}

/// The format of a file of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Apache Parquet.
    #[serde(rename = "parquet")]
    Parquet,
    /// One JSON object per line.
    #[serde(rename = "jsonl")]
    Jsonl,
    /// One JSON object per line, compressed with Zstandard.
    #[serde(rename = "jsonl.zst")]
    JsonlZstd,
    /// One JSON object per line, compressed with gzip.
    #[serde(rename = "jsonl.gz")]
    JsonlGzip,
    /// Arrow IPC, a file or a stream.
    #[serde(rename = "arrow")]
    Arrow,
}

impl Format {
    /// The format that a file's name ends in, if it is one of ours.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        const ENDINGS: [(&str, Format); 12] = [
            (".parquet", Format::Parquet),
            (".jsonl", Format::Jsonl),
            (".ndjson", Format::Jsonl),
            (".json", Format::Jsonl),
            (".jsonl.zst", Format::JsonlZstd),
            (".ndjson.zst", Format::JsonlZstd),
            (".json.zst", Format::JsonlZstd),
            (".jsonl.gz", Format::JsonlGzip),
            (".ndjson.gz", Format::JsonlGzip),
            (".json.gz", Format::JsonlGzip),
            (".arrow", Format::Arrow),
            (".feather", Format::Arrow),
        ];
        let name = name.to_ascii_lowercase();
        ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
    }
}

/// How documents are laid into windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// One after the other, cut where a window ends; no padding.
    #[default]
    ConcatAndChunk,
    /// Whole documents into the window that they fill best; padded, and only documents longer than
    /// a window are cut.
    BestFit,
}

/// The Unicode normalisation of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Canonical composition.
    #[default]
    Nfc,
    /// The text as it is.
    None,
}

fn default_seed() -> Seed {
    Seed(17)
}

fn default_partitions() -> u32 {
    16
}

fn default_text_column() -> String {
    "text".to_owned()
}

fn default_document_bytes() -> Bytes {
    Bytes(64 << 20)
}

fn default_memory_budget() -> Bytes {
    Bytes(1 << 30)
}

/// As the filter of GPT-3's corpus: Brown et al. (2020), appendix C.
fn default_ngram() -> usize {
    13
}

/// The shortest n-gram of the same appendix's study of overlaps.
fn default_minimum_words() -> usize {
    8
}

fn default_maximum_items() -> usize {
    10
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_format() {
        for (name, format) in [
            ("a/b.PARQUET", Some(Format::Parquet)),
            ("part-0.jsonl", Some(Format::Jsonl)),
            ("part-0.jsonl.zst", Some(Format::JsonlZstd)),
            ("part-0.json.gz", Some(Format::JsonlGzip)),
            ("x.arrow", Some(Format::Arrow)),
            ("x.zst", None),
            ("README.md", None),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }
}
