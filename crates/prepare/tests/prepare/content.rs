use std::sync::Mutex;

use terrace_config::{Bytes, Normalization, Packing};
use terrace_data::{BadRow, BadRowKind, BadRows, Dropped, Edition};
use terrace_prepare::{Options, Phase, Progress, ProgressObserver, run};

use crate::support::{
    FORMATS, config, corpus, manifest, named, prepare, shards, sorted, texts, tokenizer, write,
};

#[test]
fn every_format_gives_the_same_edition() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(180, 4);
    let mut expected = None;
    for format in FORMATS {
        let input = write(home.path(), format, &documents);
        let output = home.path().join(format!("{format}.edition"));
        prepare(&config(&[input]), &output).unwrap();
        assert_eq!(sorted(texts(&output)), sorted(documents.clone()), "{format}");
        let found = (shards(&output), manifest(&output).fingerprint);
        assert_eq!(&found, expected.get_or_insert_with(|| found.clone()), "{format}");
    }
}

#[test]
fn the_manifest_counts_what_the_shards_hold() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(180, 5);
    let input = write(home.path(), "jsonl", &documents);
    for packing in [Packing::ConcatAndChunk, Packing::BestFit] {
        for append_eos in ["<|endoftext|>", ""] {
            let mut config = config(std::slice::from_ref(&input));
            config.packing = packing;
            config.append_eos = append_eos.to_owned();
            let output = home.path().join(format!("{packing:?}{}", append_eos.len()));
            let report = prepare(&config, &output).unwrap();
            let manifest = manifest(&output);
            assert_eq!(report.manifest, manifest);

            let tokenizer = tokenizer();
            let tokens: usize = documents.iter().map(|d| tokenizer.encode(d).unwrap().len()).sum();
            let eos = usize::from(!append_eos.is_empty()) * documents.len();
            // Every token but the first of each document is a target.
            assert_eq!(manifest.target_tokens as usize, tokens + eos - documents.len());
            let text_bytes: usize = documents.iter().map(String::len).sum();
            assert_eq!(manifest.text_bytes as usize, text_bytes);
            let lengths = tokenizer.byte_lengths();
            let first = |d: &String| lengths[tokenizer.encode(d).unwrap()[0] as usize] as usize;
            let first_bytes: usize = documents.iter().map(first).sum();
            assert_eq!(manifest.target_bytes as usize, text_bytes - first_bytes);
            assert_eq!((manifest.documents, manifest.counts.kept), (180, 180));
            assert_eq!(manifest.eos_token_id.is_some(), eos > 0);

            let edition = Edition::open(&output).unwrap();
            let windows = (0..edition.windows()).map(|i| edition.window(i));
            let sum = windows.fold((0, 0), |(tokens, bytes), window| {
                (tokens + u64::from(window.target_tokens), bytes + u64::from(window.target_bytes))
            });
            assert_eq!(sum, (manifest.target_tokens, manifest.target_bytes));
            assert_eq!(manifest.tokens, manifest.windows * 32);
            terrace_data::verify(&output, &mut |_| ()).unwrap();
        }
    }
}

#[test]
fn held_out_documents_are_kept_apart() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(150, 6);
    let input = write(home.path(), "jsonl", &documents);
    // In another format, in another order, one of them twice and one not composed.
    let mut held_out = documents[100..].to_vec();
    held_out.push(documents[120].clone());
    held_out[3] = held_out[3].replace('ï', "i\u{308}");
    let mut config = config(&[input]);
    config.held_out = named(&[write(home.path(), "parquet", &held_out)]);
    let output = home.path().join("edition");
    let report = prepare(&config, &output).unwrap();

    assert_eq!(sorted(texts(&output)), sorted(documents[..100].to_vec()));
    assert_eq!(sorted(texts(&output.join("held_out"))), sorted(documents[100..].to_vec()));
    let dropped = Dropped { in_held_out: 50, ..Dropped::default() };
    assert_eq!(report.manifest.counts.dropped, dropped);
    let held_out = report.held_out.unwrap();
    assert_eq!((held_out.documents, held_out.counts.dropped.duplicate), (50, 1));
    let edition = Edition::open(&output).unwrap();
    assert_eq!(edition.open_held_out().unwrap().unwrap().manifest(), &held_out);
}

#[test]
fn filters_count_what_they_drop_and_bad_rows_are_listed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.jsonl");
    let long = "y".repeat(70);
    let lines: Vec<Vec<u8>> = [
        r#"{"id": "first", "text": "cafe\u0301 au lait"}"#.to_owned(),
        r#"{"id": 1, "text": "café au lait"}"#.to_owned(),
        r#"{"id": 2, "text": "   \n "}"#.to_owned(),
        r#"{"id": 3, "text": "短"}"#.to_owned(),
        format!(r#"{{"text": "{}"}}"#, "x".repeat(41)),
        r#"{"id": 5, "text": null}"#.to_owned(),
        String::new(),
        r#"{"id": 7}"#.to_owned(),
        format!(r#"{{"id": 8, "text": "{long}"}}"#),
        r#"{"id": 9, "text": 3}"#.to_owned(),
        "not json".to_owned(),
        "INVALID".to_owned(),
        format!(r#"{{"text": "kept", "pad": "{}"}}"#, "z".repeat(2 << 20)),
        r#"{"id": 13, "text": "the last one"}"#.to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    let mut bytes = b"\xef\xbb\xbf".to_vec();
    bytes.extend(lines.join(&b'\n'));
    let place = bytes.windows(7).position(|window| window == b"INVALID").unwrap();
    bytes.splice(place..place + 7, *b"{\"text\": \"\xff\"}");
    terrace_base::fs::write_atomic(&path, &bytes).unwrap();

    let mut config = config(&[path]);
    config.id_column = Some("id".to_owned());
    config.minimum_characters = 2;
    config.maximum_characters = 40;
    config.maximum_document_bytes = Bytes(64);
    config.partitions = 1;
    let output = home.path().join("edition");
    let counts = prepare(&config, &output).unwrap().manifest.counts;
    assert_eq!(sorted(texts(&output)), ["café au lait", "the last one"]);
    assert_eq!((counts.read, counts.kept), (13, 2));
    let dropped =
        Dropped { empty: 1, too_short: 1, too_long: 1, duplicate: 1, ..Dropped::default() };
    assert_eq!(counts.dropped, dropped);
    // The line with two megabytes of padding cannot be told from one with a large text.
    let bad = BadRows { invalid_utf8: 1, null: 2, oversized: 2, malformed: 2 };
    assert_eq!(counts.bad, bad);

    let row = |row, id: Option<&str>, kind| {
        let (file, id) = ("rows.jsonl".to_owned(), id.map(str::to_owned));
        BadRow { file, row, id, kind }
    };
    assert_eq!(
        manifest(&output).bad_rows,
        [
            row(5, Some("5"), BadRowKind::Null),
            row(7, Some("7"), BadRowKind::Null),
            row(8, Some("8"), BadRowKind::Oversized),
            row(9, None, BadRowKind::Malformed),
            row(10, None, BadRowKind::Malformed),
            row(11, None, BadRowKind::InvalidUtf8),
            row(12, None, BadRowKind::Oversized),
        ]
    );
}

#[test]
fn without_normalisation_forms_stay_apart() {
    let home = tempfile::tempdir().unwrap();
    let documents = ["cafe\u{301}".to_owned(), "café".to_owned()];
    let mut config = config(&[write(home.path(), "arrow", &documents)]);
    config.normalization = Normalization::None;
    let output = home.path().join("edition");
    prepare(&config, &output).unwrap();
    assert_eq!(sorted(texts(&output)), sorted(documents.to_vec()));
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Progress>>);

impl ProgressObserver for Recorder {
    fn progress(&self, progress: &Progress) {
        self.0.lock().unwrap().push(*progress);
    }
}

#[test]
fn progress_ends_at_the_total() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(300, 7);
    let inputs = FORMATS.map(|format| write(home.path(), format, &documents));
    let recorder = Recorder::default();
    let output = home.path().join("edition");
    let report = run(&config(&inputs), &output, &Options::default(), &recorder).unwrap();
    let seen = recorder.0.into_inner().unwrap();
    for phase in [Phase::Reading, Phase::Writing] {
        let last = |count: fn(&Progress) -> u64| {
            seen.iter().filter(|p| p.phase == phase).map(count).max().unwrap()
        };
        let total = seen.iter().find(|p| p.phase == phase).unwrap().bytes_total;
        // Row groups and record batches are weighed by their share, rounded down.
        assert!(last(|p| p.bytes_done) <= total, "{phase:?}");
        assert!(last(|p| p.bytes_done) * 10 >= total * 9, "{phase:?}");
        let documents = if phase == Phase::Reading { 1800 } else { 300 };
        assert_eq!(last(|p| p.documents), documents);
        assert!(last(|p| p.tokens) >= report.manifest.target_tokens);
    }
    assert_eq!(report.manifest.counts.dropped.duplicate, 1500);
}
