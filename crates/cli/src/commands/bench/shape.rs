//! The shapes that have a name.

use std::path::Path;

use terrace_config::Architecture;
use terrace_model::hf;

use crate::error::CliError;

/// A named shape, or that of a folder's `config.json`.
pub(super) fn architecture(name: &str) -> Result<Architecture, CliError> {
    if let Some(published) = Architecture::named(name) {
        return Ok(published);
    }
    match name {
        "small" => Ok(small()),
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

/// The model that training is measured with.
pub(super) fn small() -> Architecture {
    Architecture {
        hidden_size: 384,
        intermediate_size: 1024,
        num_hidden_layers: 6,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 64,
        vocab_size: 8192,
        ..Architecture::named("yi-9b").expect("it is a name")
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
