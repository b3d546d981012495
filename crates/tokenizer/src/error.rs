use std::path::PathBuf;

/// What can go wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the tokenizer {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("the tokenizer {} is not JSON; a Hugging Face tokenizer.json is expected", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where the text stops being JSON.
        source: serde_json::Error,
    },
    /// The file is JSON, but not a tokenizer that can be used.
    #[error(
        "the tokenizer {} cannot be used: {reason}; a Hugging Face tokenizer.json with a BPE or \
         Unigram model is expected",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds that is not understood.
        reason: String,
    },
    /// A text could not be encoded.
    #[error("a text of {bytes} bytes cannot be encoded: {reason}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the library says.
        reason: String,
    },
    /// Token ids could not be decoded.
    #[error("{tokens} token ids cannot be decoded: {reason}")]
    Decode {
        /// How many ids.
        tokens: usize,
        /// What the library says.
        reason: String,
    },
    /// An id is not in the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size} ids")]
    UnknownId {
        /// The id.
        id: u32,
        /// One more than the largest id.
        vocab_size: usize,
    },
}

/// A result whose error is a tokenizer's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
