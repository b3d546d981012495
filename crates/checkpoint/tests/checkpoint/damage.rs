use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use terrace_base::Tokens;
use terrace_checkpoint::{Checkpoint, Corruption, Damage, Error, RunLayout, RunLock, Store};

use crate::support::{Sample, State, names};

const FILES: [&str; 5] = [
    "logs.json",
    "manifest.json",
    "segment-0000.safetensors",
    "segment-0001.safetensors",
    "state.json",
];

/// A folder with checkpoints at 1024 and 2048 tokens, of which the newer is to be damaged.
struct Victim {
    home: tempfile::TempDir,
    newest: PathBuf,
}

impl Victim {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path());
        Sample::at(1024).save(&store);
        let newest = Sample::at(2048).save(&store).path;
        assert_eq!(names(&newest), FILES);
        Self { home, newest }
    }

    fn store(&self) -> Store {
        Store::open(self.home.path())
    }

    fn edit(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.newest.join(file);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }

    /// Resumes, expecting the older checkpoint and one that was skipped.
    fn fall_back(&self) -> Corruption {
        let mut newest = self.store().newest_valid().unwrap();
        assert_eq!(newest.checkpoint.tokens_seen(), Tokens(1024));
        assert_eq!(newest.checkpoint.state::<State>().unwrap(), Sample::at(1024).state);
        assert_eq!(newest.skipped.len(), 1);
        let corruption = newest.skipped.remove(0);
        assert_eq!(corruption.checkpoint, self.newest);
        corruption
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_changed_byte_anywhere_is_found(file in 0..FILES.len(), place: Index, flip in 1u8..) {
        let victim = Victim::new();
        victim.edit(FILES[file], |bytes| {
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
        });
        let found = victim.fall_back();
        prop_assert_eq!(&found.file, FILES[file]);
        prop_assert!(found.to_string().contains(FILES[file]));
    }

    #[test]
    fn a_cut_anywhere_is_found(file in 0..FILES.len(), length: Index) {
        let victim = Victim::new();
        victim.edit(FILES[file], |bytes| bytes.truncate(length.index(bytes.len())));
        let found = victim.fall_back();
        prop_assert_eq!(&found.file, FILES[file]);
        // All but the manifest, whose size nobody knows, are found without reading them.
        let cheaply = matches!(found.damage, Damage::Size { .. });
        prop_assert!(cheaply || FILES[file] == "manifest.json", "{}", found);
        prop_assert_eq!(victim.store().list().unwrap().damaged.len(), 1);
    }
}

#[test]
fn a_missing_file_is_found() {
    for file in FILES {
        let victim = Victim::new();
        fs::remove_file(victim.newest.join(file)).unwrap();
        let found = victim.fall_back();
        assert_eq!(found.file, file);
        assert!(matches!(found.damage, Damage::Missing), "{found}");
    }
}

#[test]
fn a_grown_file_is_found() {
    for file in FILES {
        let victim = Victim::new();
        victim.edit(file, |bytes| bytes.push(b'\n'));
        assert_eq!(victim.fall_back().file, file);
    }
}

#[test]
fn a_folder_in_place_of_a_file_is_found() {
    for file in FILES {
        let victim = Victim::new();
        fs::remove_file(victim.newest.join(file)).unwrap();
        fs::create_dir(victim.newest.join(file)).unwrap();
        assert_eq!(victim.fall_back().file, file);
    }
}

#[test]
fn files_of_another_checkpoint_are_found() {
    for file in &FILES {
        let victim = Victim::new();
        let other = victim.home.path().join("0000000000001024");
        fs::copy(other.join(file), victim.newest.join(file)).unwrap();
        assert_eq!(victim.fall_back().file, *file);
    }
}

#[test]
fn a_renamed_checkpoint_is_found() {
    let mut victim = Victim::new();
    let renamed = victim.home.path().join("0000000000009999");
    fs::rename(&victim.newest, &renamed).unwrap();
    victim.newest = renamed;
    let found = victim.fall_back();
    let (found_tokens, expected_tokens) = (Tokens(2048), Tokens(9999));
    assert!(
        matches!(found.damage, Damage::Tokens { found, expected }
            if found == found_tokens && expected == expected_tokens),
        "{found}"
    );
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let victim = Victim::new();
    victim.edit("manifest.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("terrace-checkpoint/1", "terrace-checkpoint/2").into_bytes();
    });
    let found = victim.fall_back();
    assert!(
        matches!(&found.damage, Damage::Format { found, .. } if found == "terrace-checkpoint/2"),
        "{found}"
    );
}

#[test]
fn damaged_state_is_never_handed_out() {
    let victim = Victim::new();
    let checkpoint = Checkpoint::open(&victim.newest).unwrap();
    for file in ["state.json", "logs.json"] {
        victim.edit(file, |bytes| {
            let digit = bytes.iter_mut().find(|byte| byte.is_ascii_digit()).unwrap();
            *digit = if *digit == b'1' { b'2' } else { b'1' };
        });
    }
    assert!(matches!(checkpoint.state::<State>(), Err(Error::Corrupt(_))));
    assert!(matches!(checkpoint.logs(), Err(Error::Corrupt(_))));
}

#[test]
fn when_none_is_valid_the_error_says_what_is_wrong_with_each() {
    let victim = Victim::new();
    for checkpoint in names(victim.home.path()) {
        fs::remove_file(victim.home.path().join(checkpoint).join("state.json")).unwrap();
    }
    let error = victim.store().newest_valid().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::NoneValid { skipped, .. } if skipped.len() == 2));
    let place = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} is not in {text}"));
    assert!(place("0000000000002048: state.json is missing") < place("0000000000001024: state"));
}

#[test]
fn no_checkpoint_is_an_error_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    for directory in [home.path(), &home.path().join("not-there")] {
        let error = Store::open(directory).newest_valid().unwrap_err();
        assert!(matches!(error, Error::NoCheckpoint { .. }), "{error}");
    }
}

#[test]
fn leftovers_of_a_killed_writer_are_ignored_and_then_removed() {
    let home = tempfile::tempdir().unwrap();
    let layout = RunLayout::new(home.path());
    let lock = RunLock::acquire(&layout).unwrap();
    let store = lock.store().unwrap();
    Sample::at(1024).save(&store);
    let mut writer = Sample::at(2048).begin(&store);
    writer.state(&Sample::at(2048).state).unwrap();
    // As after a kill: no destructor runs.
    std::mem::forget(writer);
    fs::write(layout.checkpoints().join("notes.txt"), "not a checkpoint").unwrap();

    let newest = Store::open(layout.checkpoints()).newest_valid().unwrap();
    assert_eq!(newest.checkpoint.tokens_seen(), Tokens(1024));
    assert!(newest.skipped.is_empty());
    assert_eq!(names(&layout.checkpoints()).len(), 3, "a reader removed something");
    lock.store().unwrap();
    assert_eq!(names(&layout.checkpoints()), ["0000000000001024", "notes.txt"]);
}

#[test]
fn a_copy_elsewhere_can_be_read() {
    let victim = Victim::new();
    let copy = victim.home.path().join("parent-of-stage-2");
    fs::rename(&victim.newest, &copy).unwrap();
    let checkpoint = Checkpoint::open(Path::new(&copy)).unwrap();
    checkpoint.verify().unwrap();
    assert_eq!(checkpoint.tokens_seen(), Tokens(2048));
}
