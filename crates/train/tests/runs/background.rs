//! Checkpoints that are written while training goes on.

use std::path::Path;

use terrace_checkpoint::Checkpoint;

use crate::world::{AT_ONCE, World, timeless};

fn digests(directory: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(directory.join("checkpoints")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let digest = |path: &std::path::PathBuf| {
        let checkpoint = Checkpoint::open(path).unwrap();
        checkpoint.verify().unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, format!("{:?}", checkpoint.state_digest()))
    };
    paths.iter().map(digest).collect()
}

#[test]
fn what_is_written_behind_is_what_would_have_been_written() {
    let (behind, at_once) = (World::new(), World::new());
    let at_once = at_once.set(&[AT_ONCE]);
    let mut saves = [0, 0];
    for (world, saves) in [&behind, &at_once].into_iter().zip(&mut saves) {
        world.train(&world.path("run"), |_| *saves += 1);
    }
    let [behind, at_once] = [&behind, &at_once].map(|world| world.path("run"));
    assert_eq!(timeless(&behind), timeless(&at_once));
    let found = digests(&behind);
    assert_eq!(found, digests(&at_once));
    // Each was told, those at a stage's end that took another's place as well.
    assert_eq!(saves, [found.len() + 2; 2]);
    assert_eq!(found.len(), timeless(&behind).len());
}

#[test]
fn a_checkpoint_that_cannot_be_written_stops_the_run_with_those_before_it() {
    let world = World::new();
    let run = world.path("run");
    let mut saved = Vec::new();
    let stopped = world.attempt(&run, |event| {
        if let terrace_train::Event::Saved { path, .. } = event {
            saved.push(path.to_path_buf());
            if saved.len() == 3 {
                // Where the next one is to be, somebody has put a file that is no folder.
                let seen: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                let next = path.with_file_name(format!("{:016}", seen + 48));
                std::fs::write(next, "in the way").unwrap();
            }
        }
    });
    let error = stopped.unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("as they were"), "{error}");
    for path in &saved {
        Checkpoint::open(path).unwrap().verify().unwrap();
    }
}
