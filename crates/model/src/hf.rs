//! Hugging Face model folders: `config.json` and safetensors, in one file or in shards.
//!
//! The only place that knows these files' names.

mod describe;
mod folder;
mod frozen;
mod load;
mod output;
mod quantization;
mod save;
mod special;
mod write;

pub use describe::{Summary, WeightFile, architecture, describe};
pub use folder::{Folder, companions};
pub use frozen::{load_frozen, load_frozen_in};
pub use load::{load, widen};
pub use output::{require_space, require_unoccupied};
pub use quantization::{Quantization, scale_name, scale_shape};
pub use save::{SaveOptions, save};
pub use special::end_of_text;
pub use write::{FolderWriter, WrittenFile, copy_companions};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// What a folder may hold besides configuration and weights that a model made from it needs too.
pub(crate) const COMPANIONS: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];
