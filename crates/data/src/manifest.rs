use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, FingerprintHasher};

use crate::{Error, Result};

/// The layout that this crate reads and writes.
pub const FORMAT: &str = "terrace-edition/1";

/// The name of the file that makes a folder an edition; it is written last.
pub const MANIFEST_FILE: &str = "manifest.json";

/// What an edition is: where its windows lie, what they hold, how they were made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Name of the source.
    pub source: String,
    /// Targets per window; a window stores one token more.
    pub sequence_length: u64,
    /// How documents were laid into windows.
    pub packing: Packing,
    /// Windows in all shards.
    pub windows: u64,
    /// `windows × sequence_length`: what training on all of it once counts as seen.
    pub tokens: u64,
    /// Documents that the windows hold.
    pub documents: u64,
    /// Positions that have a target.
    pub target_tokens: u64,
    /// Bytes of text that the targets stand for.
    pub target_bytes: u64,
    /// Bytes of text of the documents.
    pub text_bytes: u64,
    /// One more than the tokenizer's largest id.
    pub vocab_size: u64,
    /// Fingerprint of the tokenizer.
    pub tokenizer: Fingerprint,
    /// The token that ends each document, if one does.
    pub eos_token_id: Option<u32>,
    /// How ids are stored.
    pub token_type: TokenType,
    /// The shards in the order of their windows.
    pub shards: Vec<ShardEntry>,
    /// What became of every row that was read.
    pub counts: Counts,
    /// The first bad rows, by file and row.
    pub bad_rows: Vec<BadRow>,
    /// What documents share with the items of evaluation tasks, if it was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contamination: Option<Contamination>,
    /// Everything that decides the content, as it was given to `prepare`.
    pub settings: serde_json::Value,
    /// Hash over the fields that describe the windows and over the shards' hashes.
    pub fingerprint: Fingerprint,
}

/// How documents are laid into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// One stream of documents, cut every `sequence_length` tokens.
    ConcatAndChunk,
    /// Whole documents where they fit, the rest padded.
    BestFit,
}

/// How token ids are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// Two bytes, for a vocabulary of at most 65,536 ids.
    U16,
    /// Four bytes.
    U32,
}

impl TokenType {
    /// The narrowest type that holds every id of a vocabulary.
    #[must_use]
    pub fn for_vocabulary(vocab_size: u64) -> Self {
        if vocab_size <= 1 << 16 { Self::U16 } else { Self::U32 }
    }
}

/// One file of windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Name of the file within the edition.
    pub file: String,
    /// Windows in it.
    pub windows: u64,
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub blake3: Fingerprint,
}

/// What documents share with the items of evaluation tasks, by task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contamination {
    /// Documents that share an n-gram with an item of any task, copies counted each.
    pub documents: u64,
    /// The tasks, by name.
    pub tasks: Vec<TaskContamination>,
    /// The file with a line for each item.
    pub items: FileEntry,
}

/// What documents share with the items of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskContamination {
    /// Its name.
    pub task: String,
    /// Its items.
    pub items: u64,
    /// Items without an n-gram that could be looked for: too short, or all of them shared by many items.
    pub items_without_ngrams: u64,
    /// Items that share an n-gram with a document.
    pub items_found: u64,
    /// Documents that share an n-gram with an item, copies counted each.
    pub documents: u64,
}

/// A file of an edition that holds no windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name within the edition.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub blake3: Fingerprint,
}

/// What became of every row: `read = kept + dropped + bad`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows in the input.
    pub read: u64,
    /// Rows whose document is in the edition.
    pub kept: u64,
    /// Rows left out on purpose.
    pub dropped: Dropped,
    /// Rows that could not be used.
    pub bad: BadRows,
    /// Windows not written because no position in them has a target.
    pub windows_without_targets: u64,
}

/// Rows left out on purpose, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Nothing but white space, or no token.
    pub empty: u64,
    /// Fewer characters than asked for.
    pub too_short: u64,
    /// More characters than asked for.
    pub too_long: u64,
    /// The same text as a document that was kept.
    pub duplicate: u64,
    /// The same text as a held-out document.
    pub in_held_out: u64,
    /// Text of an item of an evaluation task.
    #[serde(default)]
    pub contaminated: u64,
}

/// Rows that could not be used, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRows {
    /// The text is not UTF-8.
    pub invalid_utf8: u64,
    /// There is no text.
    pub null: u64,
    /// The text is larger than a document may be.
    pub oversized: u64,
    /// The row is not what its format promises.
    pub malformed: u64,
}

/// Why a row could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRowKind {
    /// The text is not UTF-8.
    InvalidUtf8,
    /// There is no text.
    Null,
    /// The text is larger than a document may be.
    Oversized,
    /// The row is not what its format promises.
    Malformed,
}

/// A row that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BadRow {
    /// Name of the input file, without its folder.
    pub file: String,
    /// Row in the file, counted from 0.
    pub row: u64,
    /// What the identifier column says, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is wrong with it.
    pub kind: BadRowKind,
}

impl Dropped {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { empty, too_short, too_long, duplicate, in_held_out, contaminated } = self;
        empty + too_short + too_long + duplicate + in_held_out + contaminated
    }
}

impl BadRows {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.invalid_utf8 + self.null + self.oversized + self.malformed
    }

    /// Counts one more of a kind.
    pub fn add(&mut self, kind: BadRowKind) {
        *match kind {
            BadRowKind::InvalidUtf8 => &mut self.invalid_utf8,
            BadRowKind::Null => &mut self.null,
            BadRowKind::Oversized => &mut self.oversized,
            BadRowKind::Malformed => &mut self.malformed,
        } += 1;
    }
}

impl Manifest {
    /// Reads the manifest of the edition in `directory` and checks that it agrees with itself.
    ///
    /// # Errors
    ///
    /// There is none, it is none, or it contradicts itself.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(MANIFEST_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoEdition { directory: directory.to_owned() });
            }
            Err(source) => return Err(Error::Read { path, source }),
        };
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|source| Error::ManifestSyntax { path: path.clone(), source })?;
        manifest.check().map_err(|reason| Error::Manifest { path, reason })?;
        Ok(manifest)
    }

    /// The files beside the manifest: the shards, and what was found of tasks.
    pub fn files(&self) -> impl Iterator<Item = FileEntry> + '_ {
        let shard = |shard: &ShardEntry| {
            let ShardEntry { file, bytes, blake3, .. } = shard.clone();
            FileEntry { file, bytes, blake3 }
        };
        let items = self.contamination.iter().map(|found| found.items.clone());
        self.shards.iter().map(shard).chain(items)
    }

    /// Seals the manifest and writes it, which completes the edition in `directory`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn write(&mut self, directory: &Path) -> Result<()> {
        self.fingerprint = self.content_fingerprint();
        let path: PathBuf = directory.join(MANIFEST_FILE);
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        text.push(b'\n');
        terrace_base::fs::write_atomic(&path, &text).map_err(|source| Error::Write { path, source })
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("its format is `{}`, expected `{FORMAT}`", self.format));
        }
        let windows: u64 = self.shards.iter().map(|shard| shard.windows).sum();
        if windows != self.windows {
            return Err(format!("its shards hold {windows} windows, it says {}", self.windows));
        }
        let found = self.content_fingerprint();
        if found != self.fingerprint {
            return Err(format!("its fingerprint is {}, expected {found}", self.fingerprint));
        }
        Ok(())
    }

    /// Counts of what was left out, and settings, say how the windows came about, not what they
    /// are: two preparations that give the same windows are the same edition.
    fn content_fingerprint(&self) -> Fingerprint {
        let mut hasher = FingerprintHasher::new();
        hasher.update(self.format.as_bytes()).update(self.source.as_bytes());
        hasher.update(format!("{:?} {:?}", self.packing, self.token_type).as_bytes());
        hasher.update(&self.tokenizer.0);
        hasher.update(format!("{:?}", self.eos_token_id).as_bytes());
        for count in [
            self.sequence_length,
            self.windows,
            self.tokens,
            self.documents,
            self.target_tokens,
            self.target_bytes,
            self.text_bytes,
            self.vocab_size,
        ] {
            hasher.update(&count.to_le_bytes());
        }
        for shard in &self.shards {
            hasher.update(&shard.windows.to_le_bytes()).update(&shard.blake3.0);
        }
        hasher.finish()
    }
}
