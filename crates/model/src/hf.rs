//! Hugging Face model folders: `config.json` and safetensors, in one file or in shards.
//!
//! The only place that knows these files' names.

mod describe;
mod load;
mod save;

pub use describe::{Summary, WeightFile, describe};
pub use load::load;
pub use save::{SaveOptions, save};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
