//! What can be wrong with a model folder.

use std::path::PathBuf;

/// Why a model could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is where the output should be.
    #[error("{} is there and not empty; name another folder, or remove it", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The disk is too small.
    #[error(
        "{} needs {}, and its file system has {} free",
        path.display(), terrace_base::format_bytes(*needed), terrace_base::format_bytes(*available)
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// What it will take.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// `config.json` is not one of a Llama model that Terrace can train.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A weight file is not valid safetensors.
    #[error("{path}: not a valid safetensors file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// The folder has no weights.
    #[error("{path}: neither model.safetensors nor model.safetensors.index.json is there")]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A tensor that the configuration calls for is not in the files.
    #[error("{path}: tensor `{name}` is missing; config.json calls for it with shape {expected:?}")]
    MissingTensor {
        /// The folder.
        path: PathBuf,
        /// The tensor's key.
        name: String,
        /// The shape that config.json implies.
        expected: Vec<usize>,
    },
    /// A tensor is in the files that the configuration does not call for.
    #[error(
        "{path}: tensor `{name}` does not belong to the model that config.json describes \
         ({layers} layers, tied embeddings: {tied})"
    )]
    UnexpectedTensor {
        /// The folder.
        path: PathBuf,
        /// The tensor's key.
        name: String,
        /// The number of layers in config.json.
        layers: usize,
        /// Whether config.json ties the embeddings.
        tied: bool,
    },
    /// A tensor has another shape than the configuration calls for.
    #[error("{path}: tensor `{name}` has shape {found:?}, but config.json calls for {expected:?}")]
    Shape {
        /// The folder.
        path: PathBuf,
        /// The tensor's key.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that config.json implies.
        expected: Vec<usize>,
    },
    /// A tensor has an element type that is not supported.
    #[error("{path}: tensor `{name}` has element type {found}; {expected}")]
    Dtype {
        /// The folder.
        path: PathBuf,
        /// The tensor's key.
        name: String,
        /// The type in the file.
        found: String,
        /// What could be loaded.
        expected: String,
    },
    /// The weights are integers, and floats are needed.
    #[error(
        "{path}: its weights are eight-bit integers, for inference only; name the folder that \
         they were made from"
    )]
    Quantized {
        /// The folder.
        path: PathBuf,
    },
    /// The weights were quantised in a way that Terrace does not read.
    #[error("{path}: quantization_config: {reason}; `terrace quantize` makes what can be loaded")]
    Quantization {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Weights cannot be rounded to integers, or integers of a file are damaged.
    #[error("{path}: tensor `{name}`: {source}")]
    Int8 {
        /// The folder.
        path: PathBuf,
        /// The tensor's key.
        name: String,
        /// What is wrong, with its place.
        source: terrace_kernels::Int8Error,
    },
    /// The device did not take the weights.
    #[error("{path}: the device did not take tensor `{name}`: {reason}")]
    Device {
        /// The folder.
        path: PathBuf,
        /// The tensor's key.
        name: String,
        /// What the backend said.
        reason: String,
    },
}

impl Error {
    /// Wraps a system error with the file it is about.
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
