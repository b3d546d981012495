//! A run that dies and goes on is the run that never died, bit for bit.

use std::fs;
use std::path::Path;

use terrace_base::Tokens;
use terrace_train::{StopFlag, start};

use crate::world::{World, newest_checkpoint, timeless};

#[test]
fn killed_after_any_step_and_resumed_is_never_killed() {
    let world = World::new();
    let straight = world.path("straight");
    let (report, deaths) = world.train_and_die(&straight);
    assert!(report.complete);
    let records = timeless(&straight);
    assert_eq!(report.tokens_seen, Tokens(1440));
    // The deaths cover the growth of the batch, the edge of the stages and the wrap of a source.
    assert!(records.iter().any(|r| r.batch_tokens == Tokens(96)), "the batch grew");
    assert!(records.iter().any(|r| r.stage == "two"), "the stage changed");
    assert!(deaths.len() > records.len(), "one death after each step, and at the stages' ends");
    for death in &deaths {
        let again = world.train(death, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), records, "{}", death.display());
        assert_eq!(again.stages, report.stages);
        assert_eq!(again.batch_growths, report.batch_growths);
    }
}

#[test]
fn stopped_twice_is_never_stopped() {
    let world = World::new();
    let straight = world.train(&world.path("a"), |_| {});
    let directory = world.path("b");
    let first = world.train_until(&directory, 3);
    assert!(!first.complete);
    let second = world.train_until(&directory, 9);
    assert!(!second.complete);
    let last = world.train(&directory, |_| {});
    assert!(last.complete);
    assert_eq!(last.state_digest, straight.state_digest);
    assert_eq!(timeless(&directory), timeless(&world.path("a")));
    // To resume what is complete changes nothing.
    assert_eq!(world.train(&directory, |_| {}).state_digest, straight.state_digest);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let world = World::new();
    let straight = world.train(&world.path("a"), |_| {});
    let damages: [fn(&Path); 3] = [
        |newest| {
            let path = newest.join("segment-0001.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |newest| {
            let path = newest.join("state.json");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..100]).unwrap();
        },
        |newest| fs::remove_file(newest.join("segment-0002.safetensors")).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let directory = world.path(&format!("b{number}"));
        let _ = world.train_until(&directory, 6);
        let newest = newest_checkpoint(&directory);
        damage(&newest);
        let (report, resumed) = world.attempt(&directory, |_| {}).unwrap();
        let resumed = resumed.expect("there is a run");
        assert_eq!(resumed.skipped.len(), 1);
        let said = resumed.skipped[0].to_string();
        assert!(said.contains(newest.file_name().unwrap().to_str().unwrap()), "{said}");
        assert!(resumed.checkpoint.unwrap() < newest);
        assert_eq!(report.state_digest, straight.state_digest);
    }
}

#[test]
fn a_source_is_read_again_in_another_order() {
    // The small source wraps within the run: 12 windows, and more than 12 draws.
    let world = World::new();
    let mut states = Vec::new();
    let _ = world.train(&world.path("a"), |path| {
        let text = fs::read_to_string(path.join("state.json")).unwrap();
        states.push(serde_json::from_str::<serde_json::Value>(&text).unwrap());
    });
    let counts = states.last().unwrap()["cursor"]["counts"].as_array().unwrap().clone();
    let drawn: Vec<u64> = counts.iter().map(|c| c.as_u64().unwrap()).collect();
    assert_eq!(drawn.iter().sum::<u64>(), 90);
    assert!(drawn.iter().any(|count| *count > 12 && *count < 60), "{drawn:?}");
}

#[test]
fn a_run_directory_is_not_overwritten() {
    let world = World::new();
    let directory = world.path("a");
    let _ = world.train_until(&directory, 2);
    let error = world.job(
        &directory,
        StopFlag::default(),
        |_| {},
        |job| start(job).map(drop).expect_err("there is a run already"),
    );
    assert!(error.to_string().contains("terrace resume"), "{error}");
}
