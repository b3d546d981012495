//! The ids are those of the released `tokenizers` line, on code, mathematics, English and Chinese.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use terrace_tokenizer::{Error, Tokenizer};
use tokenizers_oracle::Tokenizer as Oracle;

const NAMES: [&str; 3] = ["byte_level.json", "llama3_split.json", "byte_fallback.json"];
const SAMPLES: [&str; 5] =
    ["sample.rs.txt", "sample.py.txt", "sample.math.txt", "sample.zh.txt", "sample.en.txt"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn sample(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

fn load(name: &str) -> Tokenizer {
    Tokenizer::load(&fixture(name)).unwrap()
}

fn oracle(path: &Path) -> Oracle {
    let mut oracle = Oracle::from_file(path).unwrap();
    oracle.set_encode_special_tokens(true);
    oracle
}

fn oracle_ids(oracle: &Oracle, text: &str) -> Vec<u32> {
    oracle.encode_fast(text, false).unwrap().get_ids().to_vec()
}

#[test]
fn ids_equal_the_oracle_on_every_sample() {
    for name in NAMES {
        let (ours, theirs) = (load(name), oracle(&fixture(name)));
        assert_eq!(ours.vocab_size(), theirs.get_vocab_size(true), "{name}");
        for text in SAMPLES.map(sample) {
            let ids = ours.encode(&text).unwrap();
            assert_eq!(ids, oracle_ids(&theirs, &text), "{name}");
            assert_eq!(ours.decode(&ids).unwrap(), theirs.decode(&ids, false).unwrap(), "{name}");
        }
    }
}

#[test]
fn ids_equal_the_oracle_with_the_sample_data_tokenizer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tokenizer/tokenizer.json");
    let (ours, theirs) = (Tokenizer::load(&path).unwrap(), oracle(&path));
    for text in SAMPLES.map(sample) {
        let ids = ours.encode(&text).unwrap();
        assert_eq!(ids, oracle_ids(&theirs, &text));
        assert_eq!(ours.decode(&ids).unwrap(), text);
    }
}

#[test]
fn byte_lengths_add_up_to_the_text() {
    // The tokenizer with `▁` puts one space before the text.
    for (name, extra) in NAMES.into_iter().zip([0, 0, 1]) {
        let tokenizer = load(name);
        for text in SAMPLES.map(sample) {
            let ids = tokenizer.encode(&text).unwrap();
            let bytes: u32 = ids.iter().map(|&id| tokenizer.byte_lengths()[id as usize]).sum();
            assert_eq!(bytes as usize, text.len() + extra, "{name}");
        }
    }
}

#[test]
fn special_tokens_in_a_text_are_text() {
    for (name, special) in NAMES.into_iter().zip(["<|endoftext|>", "<|end_of_text|>", "</s>"]) {
        let tokenizer = load(name);
        let id = tokenizer.token_id(special).unwrap();
        assert!(tokenizer.is_special(id));
        assert_eq!(tokenizer.byte_lengths()[id as usize], 0);
        let ids = tokenizer.encode(&format!("before{special}after {special}")).unwrap();
        assert!(!ids.iter().any(|&id| tokenizer.is_special(id)), "{name}: {ids:?}");
        assert!(tokenizer.decode(&[id]).unwrap().contains(special), "{name}");
    }
}

#[test]
fn special_tokens_of_a_prompt_become_their_ids() {
    for (name, special) in NAMES.into_iter().zip(["<|endoftext|>", "<|end_of_text|>", "</s>"]) {
        let (tokenizer, theirs) = (load(name), Oracle::from_file(fixture(name)).unwrap());
        let id = tokenizer.token_id(special).unwrap();
        assert_eq!(tokenizer.encode_with_specials(special).unwrap(), [id], "{name}");
        let text = format!("before{special}after {special}");
        let ids = tokenizer.encode_with_specials(&text).unwrap();
        assert_eq!(ids, oracle_ids(&theirs, &text), "{name}");
        let plain = sample(SAMPLES[4]);
        let ids = tokenizer.encode_with_specials(&plain).unwrap();
        assert_eq!(ids, tokenizer.encode(&plain).unwrap(), "{name}");
    }
}

#[test]
fn one_tokenizer_serves_many_threads() {
    let tokenizer = load("byte_level.json");
    let text = sample("sample.en.txt");
    let expected = tokenizer.encode(&text).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(tokenizer.encode(&text).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn the_fingerprint_ignores_layout_and_sees_content() {
    let home = tempfile::tempdir().unwrap();
    let original = sample("byte_level.json");
    let value: serde_json::Value = serde_json::from_str(&original).unwrap();
    let with = |text: String| {
        let path = home.path().join("tokenizer.json");
        terrace_base::fs::write_atomic(&path, text.as_bytes()).unwrap();
        Tokenizer::load(&path).unwrap().fingerprint()
    };
    let fingerprint = load("byte_level.json").fingerprint();
    assert_eq!(with(serde_json::to_string_pretty(&value).unwrap()), fingerprint);
    assert_ne!(with(original.replace("<|pad|>", "<|pae|>")), fingerprint);
}

#[test]
fn bad_files_are_named() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tokenizer.json");
    assert!(matches!(Tokenizer::load(&path), Err(Error::Read { .. })));
    for (text, json) in [("{\"model\":", true), ("{}", false), ("[]", false)] {
        terrace_base::fs::write_atomic(&path, text.as_bytes()).unwrap();
        let error = Tokenizer::load(&path).unwrap_err();
        assert_eq!(matches!(error, Error::Json { .. }), json, "{text}");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
    assert!(matches!(load(NAMES[0]).decode(&[1 << 30]), Err(Error::UnknownId { .. })));
}

proptest! {
    #[test]
    fn any_text_round_trips(text in "\\PC*|[a-z \\n\\t'0-9一-九é🙂]*") {
        for name in &NAMES[..2] {
            let (ours, theirs) = (load(name), oracle(&fixture(name)));
            let ids = ours.encode(&text).unwrap();
            prop_assert_eq!(&ids, &oracle_ids(&theirs, &text));
            prop_assert_eq!(ours.decode(&ids).unwrap(), text.clone());
        }
    }
}
