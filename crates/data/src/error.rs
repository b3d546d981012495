use std::path::PathBuf;

use terrace_base::Fingerprint;

/// What can be wrong with an edition on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no edition in the folder.
    #[error(
        "{} holds no edition: it has no manifest.json; `terrace prepare` makes one",
        directory.display()
    )]
    NoEdition {
        /// The folder.
        directory: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The manifest is no manifest.
    #[error("{} is not the manifest of an edition", path.display())]
    ManifestSyntax {
        /// The file.
        path: PathBuf,
        /// Where it stops being one.
        source: serde_json::Error,
    },
    /// The manifest contradicts itself or was edited.
    #[error("{} cannot be trusted: {reason}; prepare the edition again", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What was found and what is expected.
        reason: String,
    },
    /// A shard, or another file that the manifest names, is not there.
    #[error("{} is missing; prepare the edition again or copy it whole", path.display())]
    MissingShard {
        /// The file.
        path: PathBuf,
    },
    /// A shard, or another file, has another size than the manifest says.
    #[error(
        "{} has {found} bytes, expected {expected}: it was cut or only partly copied; \
         prepare the edition again or copy it whole",
        path.display()
    )]
    ShardSize {
        /// The file.
        path: PathBuf,
        /// Bytes in the file.
        found: u64,
        /// Bytes in the manifest.
        expected: u64,
    },
    /// A shard has the right size but cannot be the file that was written.
    #[error("shard {} is damaged: {reason}; prepare the edition again or copy it whole", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What was found and what is expected.
        reason: String,
    },
    /// A shard's content, or another file's, has another hash than the manifest says.
    #[error(
        "{} is damaged: its blake3 is {found}, expected {expected}; prepare the edition \
         again or copy it whole",
        path.display()
    )]
    ShardHash {
        /// The file.
        path: PathBuf,
        /// Hash of the file.
        found: Fingerprint,
        /// Hash in the manifest.
        expected: Fingerprint,
    },
}

/// A result whose error is about an edition.
pub type Result<T, E = Error> = std::result::Result<T, E>;
