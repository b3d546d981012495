//! A tokenizer of bytes, the model over it, and tasks in a folder of their own.

use std::path::{Path, PathBuf};

use serde_json::json;
use terrace_base::Seed;
use terrace_completion::Bigram;
use terrace_config::{TaskConfig, load_task};
use terrace_tokenizer::Tokenizer;

/// The token that ends a text; bytes come behind it.
pub(crate) const END: u32 = 0;

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

    pub(crate) fn task(&self, text: &str) -> TaskConfig {
        let path = self.write("task.toml", text);
        load_task(&path, &[]).unwrap_or_else(|error| panic!("{error}")).config
    }

    /// One token per byte, and the end of a text.
    pub(crate) fn tokenizer(&self) -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        vocab.insert("<end>".to_owned(), json!(END));
        for (place, spelling) in spellings().into_iter().enumerate() {
            vocab.insert(spelling.to_string(), json!(place + 1));
        }
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        });
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [{
                "id": END, "content": "<end>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            }],
            "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": false, "vocab": vocab, "merges": [],
            },
        });
        let path = self.write("tokenizer.json", &file.to_string());
        Tokenizer::load(&path).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// How each byte is written in a byte-level vocabulary.
fn spellings() -> Vec<char> {
    let is_itself = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256..;
    let one = |byte| if is_itself(byte) { byte } else { others.next().unwrap() };
    (0..256).map(one).map(|code| char::from_u32(code).unwrap()).collect()
}

/// The model over these tokens.
pub(crate) fn model(context_length: usize) -> Bigram {
    let pieces: Vec<String> = std::iter::once("<end>".to_owned())
        .chain((0..=255_u8).map(|byte| {
            if byte.is_ascii() { char::from(byte).to_string() } else { "?".to_owned() }
        }))
        .collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    Bigram::new(&pieces, END, context_length, Seed(11))
}

/// The natural logarithm of the probability of a text behind another, at least one byte long.
pub(crate) fn log_probability(model: &Bigram, before: &str, text: &str) -> f64 {
    let token = |byte: &u8| u32::from(*byte) + 1;
    let mut last = before.as_bytes().last().map_or(END, token);
    let mut sum = 0.0;
    for next in text.as_bytes().iter().map(token) {
        sum += f64::from(model.log_probability(last, next));
        last = next;
    }
    sum
}
