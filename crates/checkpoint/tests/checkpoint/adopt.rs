use std::os::unix::fs::MetadataExt;

use terrace_base::Tokens;
use terrace_checkpoint::{Error, LogPositions, RunLayout, Store};

use crate::support::{Sample, State};

#[test]
fn a_child_shares_the_files_of_its_parent() {
    let home = tempfile::tempdir().unwrap();
    let [parent, child] = ["parent", "child"].map(|name| RunLayout::new(home.path().join(name)));
    let store = Store::open(parent.checkpoints());
    let sample = Sample::at(4096);
    let saved = sample.save(&store);
    let original = store.newest_valid().unwrap().checkpoint;

    let own = Store::open(child.checkpoints());
    let adopted = own.adopt(&original).unwrap();
    assert_eq!(adopted.state_digest, saved.state_digest);
    assert_eq!(adopted.path, child.checkpoint(Tokens(4096)));
    for file in original.files() {
        let inode = |folder: &std::path::Path| folder.join(&file.name).metadata().unwrap().ino();
        let is_shared = inode(original.path()) == inode(&adopted.path);
        assert_eq!(is_shared, file.name != "logs.json", "{}", file.name);
    }
    // It outlives its parent.
    store.remove(Tokens(4096)).unwrap();
    let newest = own.newest_valid().unwrap();
    assert!(newest.skipped.is_empty());
    assert_eq!(newest.checkpoint.state::<State>().unwrap(), sample.state);
    assert_eq!(newest.checkpoint.logs().unwrap(), LogPositions::new());
    assert_eq!(newest.checkpoint.facts(), &sample.facts());
}

#[test]
fn a_damaged_parent_has_no_child() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("parent"));
    Sample::at(4096).save(&store);
    let original = store.newest_valid().unwrap().checkpoint;
    let path = original.path().join("segment-0001.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let child = Store::open(home.path().join("child"));
    assert!(matches!(child.adopt(&original), Err(Error::Corrupt(_))));
    assert!(child.list().unwrap().checkpoints.is_empty());
}
