//! Steering a run: other mixtures, edited run files, children, comparisons, probes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kill::wait_for_step;
use crate::support::{Outcome, files_below, flip_a_bit, small_run, terrace_in};
use serde_json::{Value, json};

const RUN: &str = r#"
name = "steered"
training.recompute = "none"
[batch]
mode = "fixed"
initial_tokens = 128
[checkpoint]
every_tokens = 512
keep_last = 100
[validation]
sequences_per_source = 2
[[stages]]
name = "one"
budget_tokens = 2048
mixture = { apples = 0.7, pears = 0.3 }
[[stages]]
name = "two"
budget_tokens = 512
mixture = { apples = 0.5, pears = 0.5 }
"#;

const MORE_PEARS: &str = "mixture = { apples = 0.2, pears = 0.8 }\n";
const AS_BEFORE: &str = "mixture = { apples = 0.7, pears = 0.3 }\n";

/// A folder with the run file, two mixtures, and the run in `run`, trained to its end.
struct World {
    home: tempfile::TempDir,
    report: Value,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        small_run(home.path(), RUN);
        fs::write(home.path().join("pears.mix"), MORE_PEARS).unwrap();
        fs::write(home.path().join("apples.mix"), AS_BEFORE).unwrap();
        let report = terrace_in(home.path(), ["train", "run.toml", "--json"]).expect_code(0).json();
        Self { home, report }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    #[track_caller]
    fn terrace(&self, arguments: &[&str], code: i32) -> Outcome {
        terrace_in(self.home.path(), arguments).expect_code(code)
    }

    /// Leaves a run as if it had been killed right after it saved at so many tokens.
    fn cut(&self, run: &str, tokens: u64) {
        let checkpoints = fs::read_dir(self.path(run).join("checkpoints")).unwrap();
        for path in checkpoints.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.parse::<u64>().unwrap() > tokens {
                fs::remove_dir_all(&path).unwrap();
            }
        }
        let _ = fs::remove_file(self.path(run).join("report.json"));
    }

    fn log(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    /// The content of every file below a folder.
    fn content(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        // The lock's file says who had it last.
        let files = files_below(&self.path(name), "").into_iter();
        let files = files.filter(|path| !path.ends_with("lock"));
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

/// All that was said, on one line: text for people is broken into lines.
fn said(outcome: &Outcome) -> String {
    let words = [&outcome.stdout, &outcome.stderr].map(|text| text.split_whitespace());
    words.into_iter().flatten().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// The lines about mixes among decisions.
fn mixes(decisions: &[Value]) -> Vec<(u64, String)> {
    let mixes = decisions.iter().filter(|line| line["kind"] == "mix");
    mixes
        .map(|line| {
            (line["tokens_seen"].as_u64().unwrap(), line["reason"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn a_mix_there_and_back_is_what_a_plan_of_both_would_have_been() {
    let world = World::new();
    world.cut("run", 1024);
    let mixed = world.terrace(&["mix", "run", "--mixture", "pears.mix", "--json"], 0).json();
    assert_eq!((&mixed["changed"], &mixed["from_tokens"]), (&json!(true), &json!(1024)));
    let recorded = mixes(&world.log("run/decisions.jsonl"));
    assert_eq!(recorded.len(), 1);
    assert!(recorded[0].1.contains("draws apples 0.2, pears 0.8 from 1,024 tokens on"));
    world.terrace(&["resume", "run"], 0);
    world.cut("run", 1536);
    world.terrace(&["mix", "run", "--from-next-step", "--mixture", "apples.mix"], 0);
    let steered = world.terrace(&["resume", "run", "--json"], 0).json();

    // Both were asked for, and both took effect; a resume that cut the logs lost neither.
    let decisions = mixes(&world.log("run/decisions.jsonl"));
    let places: Vec<u64> = decisions.iter().map(|(tokens, _)| *tokens).collect();
    assert_eq!(places, [1024, 1024, 1536, 1536], "{decisions:?}");
    let journal = world.log("run/journal.jsonl");
    assert_eq!(journal.iter().filter(|line| line["event"] == "mix").count(), 2);

    // The same as if it had been written into the run file: no window repeated, none lost.
    let changes = "mixture = { apples = 0.7, pears = 0.3 }\nmixture_changes = [\
        { after_tokens = 1024, mixture = { apples = 2, pears = 8 } },\
        { after_tokens = 1536, mixture = { apples = 7, pears = 3 } }]";
    world.edit("run.toml", "mixture = { apples = 0.7, pears = 0.3 }", changes);
    let planned = ["train", "run.toml", "--json", "--set", "run_directory=planned"];
    let planned = world.terrace(&planned, 0).json();
    assert_eq!(steered["state_digest"], planned["state_digest"]);
    assert_ne!(steered["state_digest"], world.report["state_digest"]);

    let run = world.terrace(&["inspect", "run", "--json"], 0).json();
    let parts: Vec<(u64, u64, f64)> = run["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| {
            let apples = &stage["mixture"]["apples"];
            assert!(apples["deviation_sequences"].as_f64().unwrap().abs() < 1.0, "{stage}");
            let after = stage["after_tokens"].as_u64().unwrap_or(0);
            (after, stage["sequences"].as_u64().unwrap(), apples["target_share"].as_f64().unwrap())
        })
        .collect();
    assert_eq!(parts, [(0, 32, 0.7), (1024, 16, 0.2), (1536, 16, 0.7), (0, 16, 0.5)]);
}

#[test]
fn a_mix_that_is_taken_back_at_once_leaves_no_trace_in_the_numbers() {
    let world = World::new();
    world.cut("run", 1024);
    world.terrace(&["mix", "run", "--mixture", "pears.mix"], 0);
    world.terrace(&["mix", "run", "--mixture", "apples.mix"], 0);
    let same = world.terrace(&["mix", "run", "--mixture", "apples.mix", "--json"], 0).json();
    assert_eq!(same["changed"], false);
    let resumed = world.terrace(&["resume", "run", "--json"], 0).json();
    assert_eq!(resumed["state_digest"], world.report["state_digest"]);
    assert_eq!(mixes(&world.log("run/decisions.jsonl")).len(), 2);
}

#[test]
fn a_mix_reaches_into_the_future_and_not_into_the_past() {
    let world = World::new();
    world.cut("run", 1024);
    let refuse = |arguments: &[&str], expected: &str| {
        let before = world.content("run");
        let refused = world.terrace(&[&["mix", "run", "--mixture"], arguments].concat(), 2);
        assert!(said(&refused).contains(expected), "{refused}");
        assert_eq!(world.content("run"), before, "{arguments:?}");
    };
    refuse(&["pears.mix", "--from-stage", "0"], "1,024 of its 2,048 tokens are drawn");
    refuse(&["pears.mix", "--from-stage", "2"], "the run's stages are 0 to 1");
    refuse(&["pears.mix", "--from-stage", "tow"], "there is no stage `tow`");
    fs::write(world.path("plums.mix"), "mixture = { plums = 1, pears = 1 }\n").unwrap();
    refuse(&["plums.mix"], "there is no source `plums`");
    refuse(&["none.mix"], "cannot read none.mix");

    world.terrace(&["mix", "run", "--from-stage", "two", "--mixture", "pears.mix"], 0);
    assert_eq!(mixes(&world.log("run/decisions.jsonl"))[0].0, 1024);
    world.terrace(&["resume", "run"], 0);
    let run = world.terrace(&["inspect", "run", "--json"], 0).json();
    assert_eq!(run["stages"][0]["mixture"]["apples"]["target_share"], 0.7);
    assert_eq!(run["stages"][1]["mixture"]["apples"]["target_share"], 0.2);
    let done = world.terrace(&["mix", "run", "--mixture", "pears.mix"], 2);
    assert!(said(&done).contains("all 2 stages are done"), "{done}");
}

#[test]
fn a_mix_keeps_the_caps() {
    let world = World::new();
    world.edit("small.toml", "edition = \"pears\"", "edition = \"pears\"\nmax_epochs = 1");
    let manifest = fs::read_to_string(world.path("pears/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let budget = manifest["windows"].as_u64().unwrap() * 64;
    let set = format!("stages.0.budget_tokens={budget}");
    let train = ["train", "run.toml", "--set", "run_directory=capped", "--set", &set];
    world.terrace(&train, 0);
    world.cut("capped", 512);
    fs::write(world.path("all.mix"), "mixture = { pears = 1 }\n").unwrap();
    let refused = world.terrace(&["mix", "capped", "--mixture", "all.mix"], 2);
    assert!(said(&refused).contains("max_epochs = 1"), "{refused}");
    assert!(mixes(&world.log("capped/decisions.jsonl")).is_empty());
}

#[test]
fn an_edited_run_file_is_noticed_explained_and_asked_for() {
    let world = World::new();
    world.cut("run", 1024);
    world.edit("run/config.toml", "apples = 0.7", "apples = 0.1");
    let asked = world.terrace(&["resume", "run"], 2);
    for expected in ["stages.0.mixture.apples: 0.7 -> 0.1", "--accept-changes", "1,024 tokens"] {
        assert!(said(&asked).contains(expected), "{expected} is not in {asked}");
    }
    let json = world.terrace(&["resume", "run", "--json"], 2).json();
    assert!(json["error"]["message"].as_str().unwrap().contains("0.7 -> 0.1"), "{json}");
    // Another verb does not slip it in.
    let mix = world.terrace(&["mix", "run", "--mixture", "pears.mix"], 2);
    assert!(said(&mix).contains("was edited"), "{mix}");

    world.terrace(&["resume", "run", "--accept-changes"], 0);
    let run = world.terrace(&["inspect", "run", "--json"], 0).json();
    let share = |stage: usize| &run["stages"][stage]["mixture"]["apples"]["target_share"];
    assert_eq!((share(0), share(1)), (&json!(0.7), &json!(0.25)));
    // It is followed now: nothing more to ask.
    world.cut("run", 1536);
    world.terrace(&["resume", "run"], 0);
    let journal = world.log("run/journal.jsonl");
    let change = journal.iter().find(|line| line["event"] == "change").unwrap();
    assert_eq!(change["details"]["changes"][0]["key"], "stages.0.mixture.apples");
}

#[test]
fn the_users_own_file_swaps_there_and_back() {
    let world = World::new();
    world.cut("run", 1024);
    world.terrace(&["resume", "run", "--config", "run.toml"], 0);
    world.cut("run", 1024);
    let resume = ["resume", "run", "--json", "--config", "run.toml"];
    let accept = [&resume[..], &["--accept-changes"]].concat();
    let (before, after) = ("apples = 0.7, pears = 0.3", "apples = 0.2, pears = 0.8");
    world.edit("run.toml", before, after);
    let asked = world.terrace(&resume, 2);
    assert!(said(&asked).contains("stages.0.mixture.pears: 0.3 -> 0.8"), "{asked}");
    world.terrace(&accept, 0);
    world.cut("run", 1536);
    world.terrace(&resume, 0);
    world.cut("run", 1536);
    world.edit("run.toml", after, before);
    world.terrace(&resume, 2);
    let steered = world.terrace(&accept, 0).json();

    let changes = "mixture = { apples = 0.7, pears = 0.3 }\nmixture_changes = [\
        { after_tokens = 1024, mixture = { apples = 2, pears = 8 } },\
        { after_tokens = 1536, mixture = { apples = 7, pears = 3 } }]";
    world.edit("run.toml", "mixture = { apples = 0.7, pears = 0.3 }", changes);
    let planned = ["train", "run.toml", "--json", "--set", "run_directory=planned"];
    let planned = world.terrace(&planned, 0).json();
    assert_eq!(steered["state_digest"], planned["state_digest"]);
}

#[test]
fn the_past_is_refused_even_if_it_is_accepted() {
    let world = World::new();
    world.cut("run", 2048);
    for (key, value, expected) in [
        ("seed", "18", "seed: 17 -> 18 (refused"),
        ("stages.0.mixture.apples", "0.9", "stages.0.mixture.apples: 0.7 -> 0.9 (refused: this"),
        ("stages.0.budget_tokens", "4096", "stages.0.budget_tokens: 2048 -> 4096 (refused"),
        ("training.sequence_length", "16", "(refused: windows were drawn in it"),
    ] {
        let set = format!("{key}={value}");
        let before = world.content("run");
        let refused = world.terrace(&["resume", "run", "--accept-changes", "--set", &set], 2);
        assert!(said(&refused).contains(expected), "{refused}");
        assert_eq!(world.content("run"), before, "{key}");
    }
    // Without the flag, what changes the numbers is no matter of --set at all.
    let refused = world.terrace(&["resume", "run", "--set", "optimizer.learning_rate=1e-4"], 2);
    assert!(said(&refused).contains("--accept-changes"), "{refused}");
    let rate = ["resume", "run", "--accept-changes", "--set", "optimizer.learning_rate=1e-4"];
    world.terrace(&rate, 0);
    let last = world.log("run/metrics.jsonl").pop().unwrap();
    assert_eq!(last["learning_rate"], 1e-4);
}

#[test]
fn a_child_goes_the_way_of_its_parent_without_a_copy_of_its_weights() {
    let world = World::new();
    let before = world.content("run");
    let branch = ["branch", "run", "--at", "1024", "--config", "run.toml", "--json"];
    let made = [&branch[..], &["--set", "run_directory=child", "--no-train"]].concat();
    let made = world.terrace(&made, 0).json();
    assert_eq!((&made["tokens_seen"], &made["changes"]), (&json!(1024), &json!([])));
    let inode = |run: &str| {
        let folder = world.path(run).join("checkpoints/0000000000001024");
        files_below(&folder, ".safetensors").iter().map(|f| f.metadata().unwrap().ino()).collect()
    };
    let (parents, childs): (Vec<u64>, Vec<u64>) = (inode("run"), inode("child"));
    assert_eq!(parents, childs);

    // The same run file: the same end.
    let end = world.terrace(&["resume", "child", "--json"], 0).json();
    assert_eq!(end["state_digest"], world.report["state_digest"]);
    assert_eq!(world.content("run"), before, "the parent was touched");
    let journal = world.log("child/journal.jsonl");
    let parent = &journal[0]["details"]["parent"];
    assert_eq!((&journal[0]["event"], &parent["tokens_seen"]), (&json!("branch"), &json!(1024)));
    assert_eq!(parent["state_digest"], made["state_digest"]);

    // Another future for a second child, and both beside each other.
    let other = ["--set", "run_directory=other", "--set", "stages.1.mixture={pears = 1}"];
    world.terrace(&[&branch[..], &other].concat(), 0);
    let compared = world.terrace(&["compare", "child", "other", "--json"], 0).json();
    assert_eq!(compared["training"].as_array().unwrap().len(), 8);
    let [first, last] = [&compared["training"][0], &compared["training"][7]];
    assert_eq!((&first["from_tokens"], &last["to_tokens"]), (&json!(1024), &json!(2560)));
    assert_eq!(first["runs"][0], first["runs"][1]);
    assert!(last["runs"][1]["sources"]["apples"].is_null(), "{last}");
    assert!(last["runs"][0]["sources"]["pears"].is_number(), "{last}");
    let held_out = compared["held_out"].as_array().unwrap();
    let places: Vec<&Value> = held_out.iter().map(|line| &line["tokens_seen"]).collect();
    assert_eq!(places, [&json!(2048), &json!(2560)]);
    assert_eq!(held_out[0]["runs"][0], held_out[0]["runs"][1]);
    assert_ne!(held_out[1]["runs"][0], held_out[1]["runs"][1]);
    let text = world.terrace(&["compare", "run", "child", "other"], 0).stderr;
    assert!(text.contains("held-out bits per byte") && text.contains("pears"), "{text}");

    let at = ["branch", "run", "--at", "1000", "--config", "run.toml"];
    let refused = world.terrace(&[&at[..], &["--set", "run_directory=third"]].concat(), 2);
    assert!(said(&refused).contains("there are some at 512, 1024"), "{refused}");
    let own = world.terrace(&branch, 2);
    assert!(said(&own).contains("the parent's own run_directory"), "{own}");
    let past = ["--set", "run_directory=third", "--set", "optimizer.beta1=0.8", "--set", "seed=1"];
    let refused = world.terrace(&[&branch[..], &past].concat(), 2);
    assert!(said(&refused).contains("seed: 17 -> 1 (refused"), "{refused}");
    assert!(!world.path("third").exists());
}

#[test]
fn a_child_of_the_time_before_a_change_follows_the_change() {
    let world = World::new();
    world.cut("run", 1536);
    let plateau = ["--set", "batch.mode=plateau", "--set", "batch.maximum_tokens=1024"];
    world.terrace(&[&["resume", "run", "--accept-changes"][..], &plateau].concat(), 0);
    let child = ["branch", "run", "--at", "1024", "--config", "run/config.toml", "--json", "--set"];
    world.terrace(&[&child[..], &["run_directory=child"]].concat(), 0);
    let decisions = world.log("child/decisions.jsonl");
    let begun = decisions.iter().find(|line| line["tokens_seen"] == 1024).unwrap();
    assert!(begun["delta_nats_per_step"].is_number(), "{begun}");
    assert_eq!(begun["step"], 8);
    // Neither was told one thing all along, so that neither is replayed as its own controller.
    for run in ["run", "child"] {
        let replayed = world.terrace(&["replay", run, "--json"], 0).json();
        assert_eq!(replayed["same_controller"], false, "{run}");
    }
}

#[test]
fn a_checkpoint_of_a_constant_rate_is_annealed_in_a_branch() {
    let world = World::new();
    let config = format!(
        "extends = \"run.toml\"\nrun_directory = \"annealed\"\n\
         [[stages]]\nname = \"one\"\nbudget_tokens = 1024\n{AS_BEFORE}\
         [[stages]]\nname = \"anneal\"\nbudget_tokens = 512\n{MORE_PEARS}decay = {{}}\n"
    );
    fs::write(world.path("anneal.toml"), config).unwrap();
    world.terrace(&["branch", "run", "--at", "1024", "--config", "anneal.toml", "--json"], 0);
    let steps = world.log("annealed/metrics.jsonl");
    let rates: Vec<f64> = steps.iter().map(|s| s["learning_rate"].as_f64().unwrap()).collect();
    let constant = world.log("run/metrics.jsonl")[7]["learning_rate"].as_f64().unwrap();
    assert_eq!(rates.len(), 4, "its own steps, from the checkpoint on");
    assert!(rates[0] <= constant && rates.windows(2).all(|pair| pair[1] < pair[0]), "{rates:?}");
    assert!(rates[3] < 0.5 * constant, "{rates:?}");
}

#[test]
fn a_folder_that_no_run_has_left_is_not_cleared_away() {
    let world = World::new();
    fs::create_dir_all(world.path("project/history")).unwrap();
    fs::write(world.path("project/history/notes.txt"), "mine").unwrap();
    let train = ["train", "run.toml", "--set", "run_directory=project"];
    let refused = world.terrace(&train, 2);
    assert!(said(&refused).contains("no run has left this"), "{refused}");
    assert_eq!(fs::read(world.path("project/history/notes.txt")).unwrap(), b"mine");
    fs::rename(world.path("run/config.toml"), world.path("run/moved.toml")).unwrap();
    let refused = world.terrace(&["train", "run.toml"], 2);
    assert!(said(&refused).contains("already holds a run"), "{refused}");
    assert!(world.path("run/history/0000.toml").exists());
}

#[test]
fn a_run_from_weights_alone_begins_anew() {
    let world = World::new();
    let init = ["init", "run", "--config", "run.toml", "--json", "--set", "run_directory=second"];
    let second = world.terrace(&init, 0).json();
    assert_eq!(second["tokens_seen"], 2560);
    // It begins where the other ended, and sees the same data again.
    let end = &world.report["stages"][1]["bits_per_byte"];
    assert_eq!(&second["bits_per_byte_before"], end);
    let digest = |run: &str| world.log(&format!("{run}/metrics.jsonl"))[0]["token_digest"].clone();
    assert_eq!(digest("run"), digest("second"));
    let journal = world.log("second/journal.jsonl");
    assert_eq!(journal[0]["event"], "init");
    let parent = &journal[0]["details"]["parent"];
    assert_eq!(parent["state_digest"], world.report["state_digest"]);
    // It stands on its own feet: killed before anything was saved, it begins again alike.
    fs::rename(world.path("run"), world.path("gone")).unwrap();
    world.cut("second", 0);
    let again = world.terrace(&["resume", "second", "--json"], 0).json();
    assert_eq!(again["state_digest"], second["state_digest"]);

    let nothing = ["init", "--config", "run.toml", "--set", "run_directory=third"];
    let refused = world.terrace(&nothing, 2);
    assert!(said(&refused).contains("names no weights"), "{refused}");
}

#[test]
fn a_probe_leaves_the_run_alone_and_goes_on_after_a_kill() {
    let world = World::new();
    world.cut("run", 1024);
    let before = world.content("run");
    let probe = ["probe-batch", "run", "--multiples", "1,2,4", "--tokens", "600", "--json"];
    let whole = world.terrace(&probe, 0).json();
    assert_eq!((&whole["complete"], &whole["tokens"]), (&json!(true), &json!(512)));
    let results = whole["results"].as_array().unwrap();
    let steps: Vec<u64> = results.iter().map(|r| r["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 2, 1]);
    let batches: Vec<u64> = results.iter().map(|r| r["batch_tokens"].as_u64().unwrap()).collect();
    assert_eq!(batches, [128, 256, 512]);
    assert!(whole["critical_multiple"].is_u64(), "{whole}");
    assert_eq!(world.content("run"), before, "the run was touched");
    // The first branch takes the very steps that the run took.
    let output = PathBuf::from(whole["output"].as_str().unwrap());
    let branch = output.join("1x/metrics.jsonl");
    let branch = world.log(branch.to_str().unwrap());
    for (ours, theirs) in branch.iter().zip(&world.log("run/metrics.jsonl")[8..12]) {
        assert_eq!(ours["nats"], theirs["nats"]);
        assert_eq!(ours["token_digest"], theirs["token_digest"]);
    }

    // Killed within the second branch, and asked again: what is there is kept.
    let elsewhere = [&probe[..], &["--output", "elsewhere"]].concat();
    let mut child = Command::new(env!("CARGO_BIN_EXE_terrace"))
        .args(&elsewhere)
        .current_dir(world.home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let second = world.path("elsewhere/2x");
    // Steps count on from those of the run.
    wait_for_step(&mut child, &second, 9);
    child.kill().unwrap();
    child.wait().unwrap();
    let first = fs::metadata(world.path("elsewhere/1x/metrics.jsonl")).unwrap();
    let again = world.terrace(&elsewhere, 0).json();
    let untouched = fs::metadata(world.path("elsewhere/1x/metrics.jsonl")).unwrap();
    assert_eq!(first.modified().unwrap(), untouched.modified().unwrap());
    for (ours, theirs) in again["results"].as_array().unwrap().iter().zip(results) {
        assert_eq!((&ours["nats"], &ours["steps"]), (&theirs["nats"], &theirs["steps"]));
    }

    let other = ["probe-batch", "run", "--tokens", "1024", "--output", "elsewhere"];
    let refused = world.terrace(&other, 2);
    assert!(said(&refused).contains("holds another probe"), "{refused}");
    let long = world.terrace(&["probe-batch", "run", "--tokens", "1M"], 2);
    assert!(said(&long).contains("--tokens 1024 is the most"), "{long}");
    let short = world.terrace(&["probe-batch", "run", "--tokens", "100"], 2);
    assert!(said(&short).contains("--tokens 512 is the least"), "{short}");
}

#[test]
fn a_coupled_probe_scales_the_rate() {
    let world = World::new();
    world.cut("run", 1024);
    let probe = ["probe-batch", "run", "--multiples", "1,4", "--tokens", "512", "--json"];
    let found = world.terrace(&[&probe[..], &["--coupling", "sqrt"]].concat(), 0).json();
    let rates: Vec<f64> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["learning_rate"].as_f64().unwrap())
        .collect();
    assert!((rates[1] / rates[0] - 2.0).abs() < 1e-12, "{rates:?}");
    let path = Path::new(found["results"][1]["run_directory"].as_str().unwrap());
    assert!(path.join("config.toml").is_file());
}

#[test]
fn a_mix_outlives_the_checkpoint_that_it_was_made_at() {
    let world = World::new();
    world.cut("run", 1536);
    world.terrace(&["mix", "run", "--mixture", "pears.mix"], 0);
    let newest = world.path("run/checkpoints/0000000000001536");
    flip_a_bit(&files_below(&newest, ".safetensors")[0]);
    // From 1024 tokens on, what was asked for at 1536 is still to come.
    let steered = world.terrace(&["resume", "run", "--json"], 0).json();
    let change = "mixture = { apples = 0.7, pears = 0.3 }\n\
        mixture_changes = [{ after_tokens = 1536, mixture = { apples = 0.2, pears = 0.8 } }]";
    world.edit("run.toml", "mixture = { apples = 0.7, pears = 0.3 }", change);
    let planned = ["train", "run.toml", "--json", "--set", "run_directory=planned"];
    let planned = world.terrace(&planned, 0).json();
    assert_eq!(steered["state_digest"], planned["state_digest"]);
    let places: Vec<u64> =
        mixes(&world.log("run/decisions.jsonl")).into_iter().map(|(tokens, _)| tokens).collect();
    assert_eq!(places, [1536, 1536]);
}

#[test]
fn other_batch_settings_begin_the_controller_anew() {
    let world = World::new();
    world.cut("run", 1024);
    let larger = ["resume", "run", "--json", "--accept-changes", "--set"];
    let larger = [&larger[..], &["batch.initial_tokens=256"]].concat();
    let first = world.terrace(&larger, 0).json();
    let batches = |run: &str| -> Vec<u64> {
        let steps = world.log(&format!("{run}/metrics.jsonl")).into_iter();
        steps.map(|step| step["batch_tokens"].as_u64().unwrap()).collect()
    };
    assert_eq!(batches("run"), [vec![128; 8], vec![256; 6]].concat());
    let decisions = world.log("run/decisions.jsonl");
    let begun = decisions.iter().find(|line| line["to_sequences"] == 8).unwrap();
    assert!(begun["reason"].as_str().unwrap().starts_with("other batch settings"), "{begun}");
    // Killed before it saved, it hears of it again.
    world.cut("run", 1024);
    let again = world.terrace(&["resume", "run", "--json"], 0).json();
    assert_eq!(again["state_digest"], first["state_digest"]);

    // Another mode, with a state that the old one knew nothing of.
    world.cut("run", 1536);
    let plateau = ["--set", "batch.mode=plateau", "--set", "batch.maximum_tokens=1024"];
    world.terrace(&[&["resume", "run", "--accept-changes"][..], &plateau].concat(), 0);
    let last = world.log("run/decisions.jsonl").pop().unwrap();
    assert!(last["delta_nats_per_step"].is_number(), "{last}");
    assert_eq!(batches("run"), [vec![128; 8], vec![256; 6]].concat());
}

#[test]
fn the_record_of_what_was_followed_is_not_for_editing() {
    let world = World::new();
    world.cut("run", 1024);
    world.edit("run/history/0000.toml", "apples = 0.7", "apples = 0.1");
    let refused = world.terrace(&["resume", "run"], 2);
    assert!(said(&refused).contains("it was changed after it was written"), "{refused}");
}
