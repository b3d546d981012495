//! The shapes that have a name.

use std::path::Path;

use terrace_config::Architecture;
use terrace_model::hf;

use crate::error::CliError;

/// A named shape, or that of a folder's `config.json`.
pub(super) fn architecture(name: &str) -> Result<Architecture, CliError> {
    match name {
        "small" => Ok(small()),
        "yi-6b" => Ok(Architecture { num_hidden_layers: 32, ..yi_9b() }),
        "yi-9b" => Ok(yi_9b()),
        folder if Path::new(folder).join("config.json").is_file() => {
            Ok(hf::architecture(Path::new(folder))?)
        }
        _ => {
            let message = format!(
                "--shape: `{name}` is neither small, yi-6b or yi-9b nor a folder with config.json"
            );
            Err(CliError::input(message))
        }
    }
}

/// As the published configuration of Yi-9B has it.
fn yi_9b() -> Architecture {
    Architecture {
        hidden_size: 4096,
        intermediate_size: 11008,
        num_hidden_layers: 48,
        num_attention_heads: 32,
        num_key_value_heads: 4,
        head_dim: 128,
        vocab_size: 64000,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: false,
        initializer_range: 0.02,
    }
}

/// That of `terrace bench train`.
fn small() -> Architecture {
    Architecture {
        hidden_size: 384,
        intermediate_size: 1024,
        num_hidden_layers: 6,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 64,
        vocab_size: 8192,
        ..yi_9b()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_published_sizes() {
        let parameters = |name| architecture(name).unwrap().parameter_count();
        assert_eq!(parameters("yi-9b"), 8_829_407_232);
        assert_eq!(parameters("yi-6b"), 6_061_035_520);
        assert!(architecture("yi-34b").unwrap_err().to_string().contains("yi-9b"));
    }
}
