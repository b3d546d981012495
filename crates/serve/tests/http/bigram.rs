//! A model whose every probability is known, with a tokenizer of the same pieces.

use std::path::Path;

use serde_json::{Map, json};
use terrace_base::Seed;
use terrace_completion::Bigram;
use terrace_tokenizer::Tokenizer;

/// What ends a text; the token with id zero.
pub(crate) const END: &str = "<end>";
/// Pieces of two characters, for which the tokenizer has merges.
const PAIRS: [(&str, &str); 8] = [
    ("t", "h"),
    ("h", "e"),
    ("i", "n"),
    ("a", "b"),
    (" ", "a"),
    ("\n", "\n"),
    ("数", "据"),
    (".", "\n"),
];
const CONTEXT: usize = 4096;

/// The printable characters of ASCII, a line's end, a few of Chinese, and some pairs.
pub(crate) fn pieces() -> Vec<String> {
    let ascii = (' '..='~').map(String::from);
    let others = "\n数据模型你好。é".chars().map(String::from);
    let pairs = PAIRS.iter().map(|(left, right)| format!("{left}{right}"));
    [END.to_owned()].into_iter().chain(ascii).chain(others).chain(pairs).collect()
}

pub(crate) fn model() -> Bigram {
    let pieces = pieces();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    Bigram::new(&pieces, 0, CONTEXT, Seed(5))
}

/// Writes the tokenizer as `tokenizer.json` into a folder and loads it.
pub(crate) fn tokenizer(folder: &Path) -> Tokenizer {
    let entries = (0..).zip(pieces()).map(|(id, piece): (u32, String)| (piece, json!(id)));
    let vocabulary: Map<_, _> = entries.collect();
    let merges: Vec<_> = PAIRS.iter().map(|(left, right)| json!([left, right])).collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 0, "content": END, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": merges},
    });
    let path = folder.join("tokenizer.json");
    terrace_base::fs::write_atomic(&path, file.to_string().as_bytes()).expect("a folder to write");
    Tokenizer::load(&path).expect("a tokenizer")
}
