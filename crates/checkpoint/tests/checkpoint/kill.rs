use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use terrace_base::Tokens;
use terrace_checkpoint::{RunLayout, RunLock, Store};

use crate::support::{Sample, State, entries, fill, names};

const ROOT: &str = "TERRACE_TEST_RUN_ROOT";

fn sample(tokens_seen: u64) -> Sample {
    let mut sample = Sample::at(tokens_seen);
    sample.segments[1] = vec![tokens_seen as f32; 3 * 20_000];
    sample
}

fn say(event: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{event}").and_then(|()| stdout.flush()).unwrap();
}

/// Saves one checkpoint, saying how far it is.
fn save(sample: &Sample, store: &Store) {
    let mut writer = sample.begin(store);
    say("begun");
    for (index, values) in sample.segments.iter().enumerate() {
        let (first, second) = values.split_at(values.len() / 2);
        let filled = writer.segment(index, &entries(values.len()), |sink| {
            fill(sink, first)?;
            say("half a segment");
            fill(sink, second)
        });
        filled.unwrap();
    }
    writer.state(&sample.state).unwrap();
    say("state");
    writer.logs(&sample.logs).unwrap();
    say("logs");
    writer.finish().unwrap();
    say(&format!("saved {}", sample.tokens_seen.0));
}

#[test]
#[ignore = "the process that `a_kill_at_any_moment_loses_at_most_what_was_being_saved` kills"]
fn save_until_killed() {
    let layout = RunLayout::new(std::env::var_os(ROOT).expect("set by the test"));
    let lock = RunLock::acquire(&layout).unwrap();
    let store = lock.store().unwrap();
    let newest = store.newest_valid().map_or(0, |newest| newest.checkpoint.tokens_seen().0);
    say("");
    for tokens_seen in newest + 1.. {
        save(&sample(tokens_seen), &store);
        if tokens_seen > 2 {
            store.remove(Tokens(tokens_seen - 2)).unwrap();
            say("removed");
        }
    }
}

/// Lets a process save until it has said `events` things; gives the last that it said it saved.
fn kill_after(events: usize, root: &Path) -> u64 {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kill::save_until_killed", "--nocapture"])
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let known = ["begun", "half a segment", "state", "logs", "saved", "removed"];
    let said: Vec<String> = said
        .filter(|line| known.iter().any(|event| line.starts_with(event)))
        .take(events)
        .collect();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(said.len(), events, "the process ended by itself");
    let saved = |line: &String| line.strip_prefix("saved ")?.parse().ok();
    said.iter().filter_map(saved).next_back().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_kill_at_any_moment_loses_at_most_what_was_being_saved(
        kills in prop::collection::vec(1..24usize, 1..4),
    ) {
        let home = tempfile::tempdir().unwrap();
        let layout = RunLayout::new(home.path());
        let mut saved = 0;
        // Two that are kept, and for each kill one whose turn to be removed had not come.
        let at_most = 2 + kills.len();
        for events in kills {
            saved = kill_after(events, home.path()).max(saved);
            let store = Store::open(layout.checkpoints());
            let Ok(newest) = store.newest_valid() else {
                prop_assert_eq!(saved, 0, "a saved checkpoint is lost");
                continue;
            };
            prop_assert!(newest.skipped.is_empty(), "{:?}", newest.skipped);
            let checkpoint = newest.checkpoint;
            prop_assert!(checkpoint.tokens_seen() >= Tokens(saved));
            let expected = sample(checkpoint.tokens_seen().0);
            prop_assert_eq!(checkpoint.state::<State>().unwrap(), expected.state);
        }
        let lock = RunLock::acquire(&layout).unwrap();
        lock.store().unwrap();
        let left = names(&layout.checkpoints());
        prop_assert!(left.len() <= at_most && left.iter().all(|name| !name.starts_with('.')), "{:?}", left);
    }
}
