//! A small run file, and editions that are nothing but their manifests.

use std::path::{Path, PathBuf};

use terrace_config::{Error, Loaded, load};

/// A run of two stages over two sources.
pub(crate) const RUN: &str = r#"name = "small"
run_directory = "runs/small"

[model]
path = "model"
[model.architecture]
hidden_size = 8
intermediate_size = 16
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 32
max_position_embeddings = 64
rms_norm_eps = 1e-6
rope_theta = 1e4

[training]
sequence_length = 10
micro_batch_sequences = 2

[optimizer]
learning_rate = 1e-3

[batch]
mode = "plateau"
initial_tokens = 40
maximum_tokens = 160
[batch.plateau]
minimum_steps_left = 1

[sources.code]
edition = "data/code"
[sources.text]
edition = "data/text"
prepare = "prepare/text.toml"

[[stages]]
name = "one"
budget_tokens = "1K"
mixture = { text = 0.75, code = 0.25 }

[[stages]]
name = "two"
budget_tokens = 2_005
mixture = { text = 1, code = 1 }
mixture_end = { code = 1 }
"#;

pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn load(&self, text: &str) -> Result<Loaded, Error> {
        self.load_with(text, &[])
    }

    pub(crate) fn load_with(&self, text: &str, set: &[(&str, &str)]) -> Result<Loaded, Error> {
        let path = self.write("run.toml", text);
        let owned = |(path, value): &(&str, &str)| ((*path).to_owned(), (*value).to_owned());
        load(&path, &set.iter().map(owned).collect::<Vec<_>>())
    }
}
