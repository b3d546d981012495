use std::borrow::Cow;

use proptest::prelude::*;
use terrace_base::Tokens;
use terrace_checkpoint::{Checkpoint, RunLayout, RunLock, Store};

use crate::support::{Sample, State, keys, names};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn read(checkpoint: &Checkpoint, segment: usize) -> Vec<f32> {
    let segment = checkpoint.segment(segment).unwrap();
    assert_eq!(segment.names(), keys());
    keys().iter().flat_map(|key| segment.tensor(key).unwrap().values.into_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_bit_comes_back(
        words in prop::collection::vec(any::<u32>(), 12),
        threshold in -1e300f64..1e300,
        counts: Vec<u64>,
    ) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path());
        let mut sample = Sample::at(1 << 40);
        let mut values: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        // A NaN with a payload, a signalling one and the zero with a sign.
        values[..3].copy_from_slice(&[0xffc1_2345, 0x7f80_0001, 0x8000_0000].map(f32::from_bits));
        sample.segments = values.chunks(6).map(<[f32]>::to_vec).collect();
        sample.state.threshold = threshold;
        sample.state.counts = counts;
        let saved = sample.save(&store);

        let newest = store.newest_valid().unwrap();
        prop_assert!(newest.skipped.is_empty());
        let checkpoint = newest.checkpoint;
        prop_assert_eq!(checkpoint.segments(), 2);
        for (index, values) in sample.segments.iter().enumerate() {
            prop_assert_eq!(bits(&read(&checkpoint, index)), bits(values));
        }
        prop_assert_eq!(checkpoint.state::<State>().unwrap(), sample.state.clone());
        prop_assert_eq!(checkpoint.logs().unwrap(), sample.logs.clone());
        prop_assert_eq!(checkpoint.facts(), &sample.facts());
        prop_assert_eq!(checkpoint.state_digest(), saved.state_digest);
        prop_assert_eq!(checkpoint.path(), &*saved.path);
        prop_assert_eq!(checkpoint.bytes(), saved.bytes);
    }

    #[test]
    fn any_bit_of_the_state_changes_the_digest(segment in 0..2usize, place in 0..6usize, bit in 0..32u32) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path());
        let mut sample = Sample::at(4096);
        let digest = sample.save(&store).state_digest;

        sample.logs = sample.logs.with("metrics.jsonl", 1).with("decisions.jsonl", 2);
        prop_assert_eq!(sample.save(&store).state_digest, digest);

        let value = &mut sample.segments[segment][place];
        *value = f32::from_bits(value.to_bits() ^ (1 << bit));
        prop_assert_ne!(sample.save(&store).state_digest, digest);
    }
}

#[test]
fn the_digest_is_that_of_the_state() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let sample = Sample::at(4096);
    let digest = sample.save(&store).state_digest;
    let changes: [fn(&mut Sample); 3] = [
        |sample| sample.state.counts[1] += 1,
        |sample| sample.state.threshold = 0.3,
        |sample| sample.segments.swap(0, 1),
    ];
    for change in changes {
        let mut other = sample.clone();
        change(&mut other);
        assert_ne!(other.save(&store).state_digest, digest);
    }
}

// Runs are compared by their digests across machines and versions: it must not drift.
#[test]
fn the_format_is_pinned() {
    let home = tempfile::tempdir().unwrap();
    let saved = Sample::at(4096).save(&Store::open(home.path()));
    assert_eq!(
        saved.state_digest.to_string(),
        "de560a95472f932297a2442592cb7405dda9750abed6c7e4969e1c6adc10f602"
    );
    assert_eq!(names(home.path()), ["0000000000004096"]);
    let files =
        ["logs.json", "manifest.json", "segment-0000.safetensors", "segment-0001.safetensors"];
    assert_eq!(names(&saved.path)[..4], files);
}

#[test]
fn tensors_are_not_copied_and_take_no_more_room_than_they_need() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let mut sample = Sample::at(1024);
    sample.segments[0] = vec![1.0; 3 * 10_000];
    let saved = sample.save(&store);

    let checkpoint = Checkpoint::open(&saved.path).unwrap();
    let record = &checkpoint.files()[1];
    assert!((120_000..121_000).contains(&record.bytes), "{record:?}");
    let segment = checkpoint.segment(0).unwrap();
    let view = segment.tensor(&keys()[1]).unwrap();
    assert!(matches!(view.values, Cow::Borrowed(_)));
    assert_eq!(view.shape, [1, 10_000]);
}

#[test]
fn a_mapped_segment_outlives_its_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let sample = Sample::at(1024);
    let checkpoint = Checkpoint::open(&sample.save(&store).path).unwrap();
    let segment = checkpoint.segment(0).unwrap();
    store.remove(Tokens(1024)).unwrap();
    let view = segment.tensor(&keys()[0]).unwrap();
    assert_eq!(bits(&view.values), bits(&sample.segments[0][..2]));
}

#[test]
fn a_run_is_listed_and_thinned() {
    let home = tempfile::tempdir().unwrap();
    let layout = RunLayout::new(home.path());
    let lock = RunLock::acquire(&layout).unwrap();
    let store = lock.store().unwrap();
    for tokens_seen in [3072, 1024, 2048] {
        let saved = Sample::at(tokens_seen).save(&store);
        assert_eq!(saved.path, layout.checkpoint(Tokens(tokens_seen)));
        assert!(Checkpoint::is_at(&saved.path));
    }
    assert!(!Checkpoint::is_at(home.path()));
    let tokens = |store: &Store| -> Vec<u64> {
        let listing = store.list().unwrap();
        assert!(listing.damaged.is_empty());
        listing.checkpoints.iter().map(|checkpoint| checkpoint.tokens_seen().0).collect()
    };
    assert_eq!(tokens(&store), [1024, 2048, 3072]);
    store.remove(Tokens(2048)).unwrap();
    assert_eq!(tokens(&store), [1024, 3072]);
    assert!(store.remove(Tokens(2048)).is_err());
    assert_eq!(names(&layout.checkpoints()).len(), 2);
}

#[test]
fn a_checkpoint_of_the_same_place_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path());
    let mut sample = Sample::at(1024);
    sample.save(&store);
    sample.state.counts.push(5);
    let saved = sample.save(&store);
    let newest = store.newest_valid().unwrap().checkpoint;
    assert_eq!(newest.state_digest(), saved.state_digest);
    assert_eq!(newest.state::<State>().unwrap(), sample.state);
    assert_eq!(names(home.path()), ["0000000000001024"]);
}
