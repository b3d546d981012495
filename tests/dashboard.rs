//! `--dashboard`: off where it cannot be, and on a real pseudo-terminal quit and killed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::kill::{wait_for_step, world};
use crate::support::{Outcome, terrace_in};

/// Long enough to press keys in.
#[cfg(target_os = "linux")]
const LONG: &str = "--set stages.0.budget_tokens=32K --set checkpoint.every_steps=10";

#[test]
fn without_a_terminal_for_itself_it_warns_and_the_run_goes_on() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let outcome = terrace_in(home.path(), ["train", "run.toml", "--dashboard", "--json"]);
    let outcome = outcome.expect_code(0);
    assert_eq!(outcome.json()["complete"], true);
    assert_eq!(warnings(&outcome).len(), 1, "{outcome}");
    assert!(warnings(&outcome)[0].contains("--json"), "{outcome}");

    let outcome = terrace_in(home.path(), ["resume", "run", "--dashboard"]).expect_code(0);
    assert_eq!(warnings(&outcome).len(), 1, "{outcome}");
    assert!(warnings(&outcome)[0].contains("terminal"), "{outcome}");
    assert!(outcome.stderr.contains("held-out bits per byte"), "{outcome}");
}

fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter(|line| line.contains("--dashboard")).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn quit_it_saves_and_exits_with_0() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let (code, text) = press(home.path(), "qs");
    assert_eq!(code, Some(0), "{text}");
    let (drawn, after) = text.rsplit_once("\x1b[?1049l").expect("the alternate screen is left");
    assert!(drawn.contains("Gradient norm") && drawn.contains("Bits/byte"), "{text:?}");
    // What was said meanwhile comes after it, in order, and the table last.
    let said = ["held-out bits per byte before training", "as asked; the state is saved", "resume"];
    let places: Vec<_> = said.iter().map(|words| after.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{after}");
    assert!(!drawn.contains(said[0]), "{drawn:?}");
    let last = terrace_in(home.path(), ["resume", "run", "--json"]).expect_code(0).json();
    assert_eq!(last["complete"], true);
}

#[test]
#[cfg(target_os = "linux")]
fn killed_it_says_how_to_go_on_and_the_last_checkpoint_is_valid() {
    let home = tempfile::tempdir().unwrap();
    world(home.path());
    let (code, text) = press(home.path(), "qk");
    assert_eq!(code, Some(130), "{text}");
    let (_, after) = text.rsplit_once("\x1b[?1049l").expect("the alternate screen is left");
    assert!(after.contains("\x1b[?25h"), "the cursor is shown: {after:?}");
    assert!(text.contains("terrace resume"), "{text}");
    assert!(!home.path().join("run/report.json").exists());
    terrace_in(home.path(), ["inspect", "run"]).expect_code(0);
    let last = terrace_in(home.path(), ["resume", "run", "--json"]).expect_code(0).json();
    assert_eq!(last["complete"], true);
}

/// Trains with the dashboard on a pseudo-terminal, presses keys in the middle of it, and returns
/// the exit code and all that the terminal got.
#[cfg(target_os = "linux")]
fn press(home: &Path, keys: &str) -> (Option<i32>, String) {
    let terrace = env!("CARGO_BIN_EXE_terrace");
    let command =
        format!("stty rows 50 cols 120; exec '{terrace}' train run.toml --dashboard {LONG}");
    let screen = home.join("screen");
    // From util-linux: makes the pseudo-terminal, and passes on the keys and the exit code.
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(home)
        .env("TERM", "xterm")
        .env_remove("TERRACE_LOG")
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&screen).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("`script` of util-linux can be started");
    wait_for_step(&mut child, &home.join("run"), 20);
    let mut keyboard = child.stdin.take().unwrap();
    keyboard.write_all(keys.as_bytes()).unwrap();
    let code = child.wait().unwrap().code();
    (code, String::from_utf8_lossy(&fs::read(screen).unwrap()).into_owned())
}
