use std::collections::HashMap;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use terrace_base::{Dtype, TensorEntry, Tokens};
use terrace_checkpoint::{Checkpoint, Error, Store};

use crate::support::{PARAMETER, Sample, entries, fill, names};

/// What a full disk says, from the kernel itself where it offers one.
fn full_disk() -> io::Error {
    let device = Path::new("/dev/full");
    let refused = std::fs::OpenOptions::new()
        .write(true)
        .open(device)
        .and_then(|mut file| file.write_all(b"x"));
    refused.err().unwrap_or_else(|| io::ErrorKind::StorageFull.into())
}

#[test]
fn a_full_disk_leaves_the_older_checkpoints_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    Sample::at(1024).save(&store);
    let sample = Sample::at(2048);
    let mut writer = sample.begin(&store);
    let values = &sample.segments[0];
    writer.segment(0, &entries(6), |sink| fill(sink, values)).unwrap();
    let error = writer
        .segment(1, &entries(6), |sink| {
            fill(sink, &values[..3])?;
            Err(full_disk())
        })
        .unwrap_err();
    drop(writer);

    // The disk that this test really has is not full: bytes are not what is missing.
    let Error::Write { path, source } = &error else {
        panic!("{error}");
    };
    assert!(path.ends_with("0000000000002048/segment-0001.safetensors"), "{error}");
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(names(home.path()), ["0000000000001024"]);
    let newest = store.newest_valid().unwrap();
    assert_eq!(newest.checkpoint.tokens_seen(), Tokens(1024));
    assert!(newest.skipped.is_empty());
}

#[test]
fn a_checkpoint_that_will_not_fit_is_not_begun() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let error = store.begin(Sample::at(1024).facts(), u64::MAX).err().unwrap();
    assert!(matches!(error, Error::NoSpace { needed: u64::MAX, .. }), "{error}");
    assert!(error.to_string().contains("0000000000001024"), "{error}");
    assert!(names(home.path()).is_empty());
}

#[test]
fn other_failures_keep_their_cause() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let mut writer = Sample::at(1024).begin(&store);
    let error = writer
        .segment(0, &entries(6), |_| Err(io::Error::other("the device was lost")))
        .unwrap_err();
    assert!(
        matches!(&error, Error::Write { source, .. } if source.to_string() == "the device was lost"),
        "{error}"
    );
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let sample = Sample::at(1024);
    let mut writer = sample.begin(&store);
    writer.segment(0, &entries(6), |sink| fill(sink, &sample.segments[0])).unwrap();
    assert_eq!(names(home.path()).len(), 1);
    drop(writer);
    assert!(names(home.path()).is_empty());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("checkpoints");
    std::fs::write(&file, b"").unwrap();
    let error = Sample::at(1024).try_save(&Store::open(&file)).unwrap_err();
    assert!(matches!(&error, Error::Write { path, .. } if *path == file), "{error}");
}

#[test]
fn a_state_that_json_cannot_hold_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let mut sample = Sample::at(1024);
    for threshold in [f64::NAN, f64::INFINITY] {
        sample.state.threshold = threshold;
        let error = sample.try_save(&store).unwrap_err();
        assert!(matches!(error, Error::StateNotExact { .. }), "{error}");
    }
    // A map in random order would give another digest each time.
    let map: HashMap<String, u64> = (0..64).map(|i| (i.to_string(), i)).collect();
    let error = sample.begin(&store).state(&map).unwrap_err();
    assert!(matches!(error, Error::StateNotExact { .. }), "{error}");
    assert!(names(home.path()).is_empty());
}

#[test]
fn an_incomplete_checkpoint_is_a_bug() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let sample = Sample::at(1024);
    let mut gap = Sample::at(2048).begin(&store);
    gap.segment(1, &entries(6), |sink| fill(sink, &sample.segments[0])).unwrap();
    gap.state(&sample.state).unwrap();
    gap.logs(&sample.logs).unwrap();
    let mut twice = Sample::at(3072).begin(&store);
    twice.state(&sample.state).unwrap();
    twice.state(&sample.state).unwrap();
    twice.logs(&sample.logs).unwrap();
    for writer in [gap, twice, sample.begin(&store)] {
        assert!(catch_unwind(AssertUnwindSafe(|| writer.finish())).is_err());
    }
    assert!(names(home.path()).is_empty());
}

#[test]
fn what_is_not_in_a_checkpoint_is_said() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let sample = Sample::at(1024);
    let mut writer = sample.begin(&store);
    let half = TensorEntry { name: PARAMETER.to_owned(), dtype: Dtype::Bf16, shape: vec![2] };
    writer.segment(0, &[half], |sink| sink.write_all(&[0; 4])).unwrap();
    writer.state(&sample.state).unwrap();
    writer.logs(&sample.logs).unwrap();
    let checkpoint = Checkpoint::open(&writer.finish().unwrap().path).unwrap();

    let absent = checkpoint.segment(1).unwrap_err();
    assert!(matches!(absent, Error::NoSegment { index: 1, segments: 1, .. }), "{absent}");
    let segment = checkpoint.segment(0).unwrap();
    for (key, reason) in [("lm_head.weight", "missing"), (PARAMETER, "BF16")] {
        let error = segment.tensor(key).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(reason), "{error}");
    }
    let error = checkpoint.state::<Vec<String>>().unwrap_err();
    assert!(matches!(error, Error::StateMismatch { .. }), "{error}");
}
