//! Why weights were not rounded, or not compared.

use std::path::PathBuf;

/// Why a folder was not made or two models not compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model cannot be read, or a file of the output not written.
    #[error(transparent)]
    Model(#[from] terrace_model::Error),
    /// The output projection was asked for, and it is the embedding.
    #[error(
        "{}: its output projection is the embedding, which stays as it is; leave out --lm-head",
        path.display()
    )]
    Tied {
        /// The model.
        path: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The two models are not one model in two forms.
    #[error(
        "{} and {} are not of one shape: the second has to be made from the first by \
         `terrace quantize`", model.display(), other.display()
    )]
    Different {
        /// The first.
        model: PathBuf,
        /// The second.
        other: PathBuf,
    },
    /// A text cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A text has nothing to predict.
    #[error("{}: no token has one before it; name a longer text", path.display())]
    Empty {
        /// The file or edition.
        path: PathBuf,
    },
    /// A token is not in the model's vocabulary.
    #[error(
        "{}: it has the token {token}, and the model's vocabulary has {vocabulary}; use the \
         model's own tokenizer", path.display()
    )]
    Vocabulary {
        /// The file or edition.
        path: PathBuf,
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocabulary: u64,
    },
    /// An edition cannot be read.
    #[error(transparent)]
    Data(#[from] terrace_data::Error),
    /// A tokenizer cannot be read, or does not take a text.
    #[error(transparent)]
    Tokenizer(#[from] terrace_tokenizer::Error),
}
