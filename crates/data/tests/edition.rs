//! Editions on disk: what is written comes back, and what is damaged is noticed and named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use terrace_base::{Fingerprint, fs};
use terrace_data::pack::PackedWindow;
use terrace_data::{
    Edition, EditionHeader, EditionSummary, EditionWriter, Error, MANIFEST_FILE, Manifest, Packing,
    Sources, TokenSlice, TokenType, count_targets, held_out_directory, verify, write_documents,
};

fn header(sequence_length: usize, vocab_size: usize) -> EditionHeader {
    EditionHeader {
        source: "test".to_owned(),
        sequence_length,
        packing: Packing::ConcatAndChunk,
        eos_token_id: Some(0),
        tokenizer: Fingerprint::of_bytes(b"tokenizer"),
        byte_lengths: (0..vocab_size as u32).map(|id| id % 7).collect(),
    }
}

/// 40 documents of 1 to 40 tokens: 820 tokens.
fn documents() -> Vec<Vec<u32>> {
    (1..=40u32).map(|n| (0..n).map(|i| (n * 31 + i * 7) % 1000).collect()).collect()
}

fn edition_in(directory: &Path) -> Manifest {
    write_documents(directory, header(8, 1000), &documents()).unwrap()
}

fn problems(directory: &Path) -> Vec<Error> {
    verify(directory, &mut |_| ()).err().unwrap_or_default()
}

#[test]
fn what_is_written_comes_back() {
    let home = tempfile::tempdir().unwrap();
    for (vocab_size, token_type) in [(65_536, TokenType::U16), (65_537, TokenType::U32)] {
        let directory = home.path().join(vocab_size.to_string());
        let manifest = write_documents(&directory, header(8, vocab_size), &documents()).unwrap();
        assert_eq!((manifest.token_type, manifest.windows), (token_type, 103));
        assert_eq!(manifest, Manifest::read(&directory).unwrap());
        assert_eq!(manifest.tokens, 103 * 8);
        assert_eq!(manifest.target_tokens, 820 - 40);

        let edition = Edition::open(&directory).unwrap();
        let stream: Vec<u32> = documents().concat();
        let mut bytes = 0;
        for (index, expected) in stream.chunks(8).enumerate() {
            let window = edition.window(index as u64);
            assert_eq!(matches!(window.tokens, TokenSlice::U16(_)), token_type == TokenType::U16);
            assert_eq!(&window.tokens.to_vec()[..expected.len()], expected);
            bytes += u64::from(window.target_bytes);
            let starts = window.document_starts;
            let byte_lengths = header(8, vocab_size).byte_lengths;
            let counts =
                count_targets(&window.tokens.to_vec(), window.length, starts, &byte_lengths);
            assert_eq!((window.target_tokens, window.target_bytes), (counts.tokens, counts.bytes));
        }
        assert_eq!(manifest.target_bytes, bytes);
        let mut hashed = 0;
        assert_eq!(verify(&directory, &mut |n| hashed += n).unwrap(), manifest);
        assert_eq!(hashed, manifest.shards[0].bytes);
    }
}

#[test]
fn windows_are_found_across_shards_and_record_batches() {
    let home = tempfile::tempdir().unwrap();
    let writer = EditionWriter::create(home.path(), header(1, 1000)).unwrap();
    let sizes = [1500, 0, 1, 2048, 1025];
    let mut next = 0;
    let mut shards = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let mut shard = writer.shard(number).unwrap();
        for _ in 0..size {
            let tokens = vec![next % 1000, next / 1000];
            shard.push(&PackedWindow { tokens, document_starts: vec![0], length: 2 }).unwrap();
            next += 1;
        }
        shards.push(shard.finish().unwrap());
    }
    shards.reverse();
    writer.finish(shards, EditionSummary::default()).unwrap();
    let edition = Edition::open(home.path()).unwrap();
    assert_eq!(edition.windows(), u64::from(next));
    for index in 0..next {
        let window = edition.window(u64::from(index));
        assert_eq!(window.tokens.to_vec(), [index % 1000, index / 1000]);
    }
}

#[test]
fn the_same_windows_are_the_same_bytes() {
    let home = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| edition_in(&home.path().join(name)));
    assert_eq!(a, b);
    let mut fewer = documents();
    fewer.pop();
    let c = write_documents(&home.path().join("c"), header(8, 1000), &fewer).unwrap();
    assert_ne!(a.fingerprint, c.fingerprint);
}

#[test]
fn a_held_out_edition_lies_inside() {
    let home = tempfile::tempdir().unwrap();
    edition_in(home.path());
    let edition = Edition::open(home.path()).unwrap();
    assert!(edition.open_held_out().unwrap().is_none());
    let held_out = edition_in(&held_out_directory(home.path()));
    assert_eq!(edition.open_held_out().unwrap().unwrap().manifest(), &held_out);
}

#[test]
fn sources_must_agree() {
    let home = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| home.path().join(name));
    edition_in(&a);
    write_documents(&b, header(9, 1000), &documents()).unwrap();
    let other = Fingerprint::of_bytes(b"another tokenizer");
    let other = EditionHeader { tokenizer: other, ..header(8, 1000) };
    write_documents(&c, other, &documents()).unwrap();
    assert_eq!(Sources::open(&[&a, &a]).unwrap().len(), 2);
    for (wrong, word) in [(&b, "sequence_length is 9, expected 8"), (&c, "tokenizer")] {
        let message = Sources::open(&[&a, wrong]).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
        assert!(message.contains(&wrong.join(MANIFEST_FILE).display().to_string()), "{message}");
    }
}

#[test]
fn a_missing_or_cut_shard_is_named() {
    let home = tempfile::tempdir().unwrap();
    let manifest = edition_in(home.path());
    let shard = home.path().join(&manifest.shards[0].file);
    let bytes = std::fs::read(&shard).unwrap();

    fs::write_atomic(&shard, &bytes[..bytes.len() - 1]).unwrap();
    let names = |error: &Error| error.to_string().contains("shard-00000.arrow");
    let error = Edition::open(home.path()).unwrap_err();
    assert!(matches!(error, Error::ShardSize { .. }) && names(&error), "{error}");
    assert!(matches!(problems(home.path())[..], [Error::ShardSize { .. }]));

    std::fs::remove_file(&shard).unwrap();
    let error = Edition::open(home.path()).unwrap_err();
    assert!(matches!(error, Error::MissingShard { .. }) && names(&error), "{error}");
    assert!(matches!(problems(home.path())[..], [Error::MissingShard { .. }]));

    std::fs::remove_file(home.path().join(MANIFEST_FILE)).unwrap();
    assert!(matches!(Edition::open(home.path()), Err(Error::NoEdition { .. })));
}

#[test]
fn an_edited_manifest_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    edition_in(home.path());
    let path = home.path().join(MANIFEST_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"source\": \"test\"", "\"source\": \"text\""),
        ("terrace-edition/1", "terrace-edition/2"),
        ("\"target_tokens\": 780", "\"target_tokens\": 781"),
    ] {
        let edited = text.replace(from, to);
        assert_ne!(edited, text);
        fs::write_atomic(&path, edited.as_bytes()).unwrap();
        assert!(matches!(Edition::open(home.path()), Err(Error::Manifest { .. })), "{to}");
    }
    fs::write_atomic(&path, b"{").unwrap();
    assert!(matches!(Edition::open(home.path()), Err(Error::ManifestSyntax { .. })));
}

struct Intact {
    home: tempfile::TempDir,
    shard: PathBuf,
    bytes: Vec<u8>,
}

fn intact() -> Intact {
    let home = tempfile::tempdir().unwrap();
    let shard = home.path().join(&edition_in(home.path()).shards[0].file);
    let bytes = std::fs::read(&shard).unwrap();
    Intact { home, shard, bytes }
}

/// Opening a damaged file may panic inside the Arrow library, which is caught; its message would
/// fill the test's output.
fn quietly<T>(action: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = action();
    std::panic::set_hook(hook);
    result
}

#[test]
fn any_flipped_byte_is_noticed_and_never_a_panic() {
    let Intact { home, shard, bytes } = intact();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let strategy = (any::<prop::sample::Index>(), 1u8..=255, any::<bool>());
    let result = quietly(|| {
        runner.run(&strategy, |(place, flip, near_end)| {
            // Half of the flips hit the footer, which is where opening looks.
            let footer = bytes.len() - 1024;
            let place =
                if near_end { footer + place.index(1024) } else { place.index(bytes.len()) };
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            fs::write_atomic(&shard, &damaged).unwrap();
            match &problems(home.path())[..] {
                [Error::ShardHash { path, .. }] => prop_assert_eq!(path, &shard),
                other => prop_assert!(false, "{:?}", other),
            }
            if let Err(error) = Edition::open(home.path()) {
                prop_assert!(error.to_string().contains("shard-00000.arrow"), "{}", error);
            }
            Ok(())
        })
    });
    result.unwrap();
}

#[test]
fn editions_are_shared_between_threads() {
    let home = tempfile::tempdir().unwrap();
    edition_in(home.path());
    let edition = Arc::new(Edition::open(home.path()).unwrap());
    let sums: Vec<u64> = (0..3)
        .map(|_| {
            let edition = Arc::clone(&edition);
            std::thread::spawn(move || {
                (0..edition.windows()).map(|i| u64::from(edition.window(i).target_tokens)).sum()
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(sums, [780; 3]);
}
