use std::path::Path;

use proptest::prelude::*;
use terrace_prepare::Error;

use crate::support::{FORMATS, config, corpus, prepare, write};

/// The error of preparing a file, with nothing left at the output or beside it.
fn refused(home: &Path, bytes: &[u8], name: &str) -> Option<Error> {
    let path = home.join(name);
    terrace_base::fs::write_atomic(&path, bytes).unwrap();
    let outputs = home.join("outputs");
    terrace_base::fs::create_dir_all(&outputs).unwrap();
    let result = prepare(&config(&[path]), &outputs.join("edition"));
    let left = std::fs::read_dir(&outputs).unwrap().count();
    assert_eq!(left, usize::from(result.is_ok()));
    terrace_base::fs::remove_dir_all(&outputs).unwrap();
    result.err()
}

#[test]
fn a_cut_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(120, 8);
    for format in FORMATS {
        let intact = std::fs::read(write(home.path(), format, &documents)).unwrap();
        let name = format!("cut.{format}");
        assert!(refused(home.path(), &intact, &name).is_none(), "{format}");
        let cuts = [3, 10, intact.len() / 3, intact.len() / 2, intact.len() - 20, intact.len() - 1];
        for length in cuts {
            // The last bytes of a stream are only the mark that it ends.
            if format == "stream.arrow" && length > intact.len() - 8 {
                continue;
            }
            let error = refused(home.path(), &intact[..length], &name)
                .unwrap_or_else(|| panic!("{format} cut to {length} of {}", intact.len()));
            assert!(matches!(error, Error::Damaged { .. }), "{format} {length}: {error}");
            assert!(error.to_string().contains(&name), "{error}");
        }
        if format != "jsonl" {
            let error = refused(home.path(), &[], &name).unwrap();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_flipped_byte_never_panics(
        format in prop::sample::select(FORMATS.to_vec()),
        place in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let home = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(write(home.path(), format, &corpus(60, 9))).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        // The text itself has no checksum in most formats: what is still well formed is read.
        if let Some(error) = refused(home.path(), &bytes, &format!("flipped.{format}")) {
            let said = error.to_string();
            prop_assert!(said.contains("flipped.") || said.contains("is empty"), "{}", said);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Runs of bytes that read as lengths and counts of all sizes, in a file that may be cut too.
    #[test]
    fn absurd_lengths_and_cuts_never_panic(
        format in prop::sample::select(FORMATS.to_vec()),
        runs in prop::collection::vec(
            (any::<prop::sample::Index>(), 1..9usize, prop::sample::select(vec![0u8, 0x7f, 0x80, 0xff])),
            1..4,
        ),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let home = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(write(home.path(), format, &corpus(60, 9))).unwrap();
        for (place, length, byte) in runs {
            let begin = place.index(bytes.len());
            let end = (begin + length).min(bytes.len());
            bytes[begin..end].fill(byte);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Some(error) = refused(home.path(), &bytes, &format!("broken.{format}")) {
            let said = error.to_string();
            prop_assert!(said.contains("broken.") || said.contains("is empty"), "{}", said);
        }
    }
}

/// An allocation that fails cannot be caught, and any eight bytes may be a length.
#[test]
fn an_absurd_number_anywhere_in_an_arrow_file_is_survived() {
    let home = tempfile::tempdir().unwrap();
    for format in ["arrow", "stream.arrow"] {
        let intact = std::fs::read(write(home.path(), format, &corpus(3, 9))).unwrap();
        let mut refusals = 0;
        for place in (0..intact.len() - 8).step_by(8) {
            let mut bytes = intact.clone();
            bytes[place..place + 8].copy_from_slice(&0x7f80_0000_0000_0000_u64.to_le_bytes());
            refusals += usize::from(refused(home.path(), &bytes, &format!("x.{format}")).is_some());
        }
        assert!(refusals > 10, "{format}: {refusals}");
    }
}

#[test]
fn a_source_without_documents_says_why() {
    let home = tempfile::tempdir().unwrap();
    let input = write(home.path(), "jsonl", &corpus(30, 10));
    let output = home.path().join("edition");
    let mut config = config(&[input]);
    config.minimum_characters = 1_000_000;
    let message = prepare(&config, &output).unwrap_err().to_string();
    for part in ["training part of source `test` is empty", "30 rows read", "30 shorter than"] {
        assert!(message.contains(part), "{message}");
    }
    let empty = home.path().join("empty.jsonl");
    terrace_base::fs::write_atomic(&empty, b"").unwrap();
    config.held_out = crate::support::named(&[empty]);
    config.minimum_characters = 0;
    let message = prepare(&config, &output).unwrap_err().to_string();
    assert!(message.contains("held-out part of source `test` is empty"), "{message}");
    assert!(!output.exists());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let input = write(home.path(), "jsonl", &corpus(3, 11));
    let base = config(&[input]);
    let output = home.path().join("edition");
    let error = |change: fn(&mut terrace_config::PrepareConfig)| {
        let mut config = base.clone();
        change(&mut config);
        prepare(&config, &output).unwrap_err()
    };
    let name = |error: Error| match error {
        Error::Setting { name, .. } => name,
        other => panic!("{other}"),
    };
    assert_eq!(name(error(|c| c.sequence_length = 0)), "sequence_length");
    assert_eq!(name(error(|c| c.partitions = 0)), "partitions");
    assert_eq!(name(error(|c| c.maximum_document_bytes.0 = 0)), "maximum_document_bytes");
    assert_eq!(name(error(|c| c.inputs.clear())), "inputs");
    let characters = error(|c| (c.minimum_characters, c.maximum_characters) = (5, 4));
    assert_eq!(name(characters), "maximum_characters");
    assert!(matches!(error(|c| c.append_eos = "</s>".to_owned()), Error::UnknownToken { .. }));
    assert!(matches!(error(|c| c.tokenizer = "nowhere.json".into()), Error::Tokenizer(_)));
    assert!(matches!(error(|c| c.inputs[0].paths[0].push('x')), Error::NoInput { .. }));
    let nowhere = error(|c| c.spill_directory = Some("/dev/null/spill".into()));
    assert!(matches!(nowhere, Error::Spill { .. }), "{nowhere}");
}
