//! A run that dies and goes on is the run that never died, bit for bit.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use terrace_base::{Fingerprint, Seed, Tokens};
use terrace_config::{Loaded, PlanOptions, RunConfig, RunPlan, gather, load, resolve};
use terrace_data::{EditionHeader, Packing, write_documents};
use terrace_train::{Event, Job, StepRecord, StopFlag, TrainReport, resume, start};

const VOCABULARY: usize = 64;
const LENGTH: usize = 16;

/// Writes two small editions with held-out parts, and a run file of two stages.
fn world(home: &Path, extra: &str) -> PathBuf {
    for (source, windows) in [("prose", 40), ("code", 12)] {
        edition(&home.join(source), source, windows, 1);
        edition(&home.join(source).join("held_out"), source, 3, 2);
    }
    let run = home.join("run.toml");
    let text = format!(
        r#"
name = "tiny"
seed = 5
run_directory = "run"
[model.architecture]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = {VOCABULARY}
max_position_embeddings = {LENGTH}
rms_norm_eps = 1e-6
rope_theta = 10000.0
tie_word_embeddings = false
[training]
sequence_length = {LENGTH}
micro_batch_sequences = 2
[optimizer]
learning_rate = 3e-3
warmup_tokens = 64
[batch]
mode = "steps"
schedule = "0:48 480:96"
[checkpoint]
every_steps = 1
keep_last = 1000
[validation]
every_tokens = 320
[sources.prose]
edition = "prose"
[sources.code]
edition = "code"
[[stages]]
name = "one"
budget_tokens = 800
mixture = {{ prose = 3, code = 1 }}
[[stages]]
name = "two"
budget_tokens = 640
mixture = {{ prose = 1, code = 1 }}
mixture_end = {{ prose = 1, code = 3 }}
{extra}
"#
    );
    fs::write(&run, text).unwrap();
    run
}

fn edition(folder: &Path, source: &str, windows: usize, seed: u64) {
    let stream = Seed(seed).stream(source);
    // Documents of uneven lengths; every token is 1 to 63, 0 ends a document.
    let mut left = windows * LENGTH + 1;
    let mut documents = Vec::new();
    let mut counter = 0;
    let mut next = |below: u64| {
        counter += 1;
        stream.at(counter) % below
    };
    while left > 0 {
        let length = (3 + next(30) as usize).min(left);
        let mut document: Vec<u32> =
            (1..length).map(|i| 1 + ((i as u64 * 7 + next(5)) % 63) as u32).collect();
        document.push(0);
        left -= length;
        documents.push(document);
    }
    let header = EditionHeader {
        source: source.to_owned(),
        sequence_length: LENGTH,
        packing: Packing::ConcatAndChunk,
        eos_token_id: Some(0),
        tokenizer: Fingerprint::of_bytes(b"tiny"),
        byte_lengths: Arc::from(vec![1u32; VOCABULARY]),
    };
    fs::create_dir_all(folder).unwrap();
    write_documents(folder, header, &documents).unwrap();
}

fn planned(run: &Path, directory: &Path) -> (Loaded<RunConfig>, RunPlan) {
    let mut overrides =
        vec![("run_directory".to_owned(), format!("{:?}", directory.display().to_string()))];
    // How often the state is saved is not part of it: a resumed run saves at the stages' ends only.
    if directory.join("config.toml").exists() {
        overrides.push(("checkpoint.every_steps".to_owned(), "1000".to_owned()));
    }
    let loaded = load(run, &overrides).unwrap();
    let plan = resolve(&loaded, &gather(&loaded.config).unwrap(), &PlanOptions::default()).unwrap();
    (loaded, plan)
}

/// Trains, or resumes if a run is there; `at_save` sees each checkpoint as it is made.
fn train(
    run: &Path,
    directory: &Path,
    stop_after: Option<u64>,
    mut at_save: impl FnMut(&Path),
) -> TrainReport {
    let (loaded, plan) = planned(run, directory);
    let stop = StopFlag::default();
    let flag = stop.clone();
    let mut observer = |event: &Event<'_>| match event {
        Event::Step(record) if Some(record.step) == stop_after => flag.request(),
        Event::Saved { path, .. } => at_save(path),
        _ => {}
    };
    let job = Job {
        loaded: &loaded,
        plan: &plan,
        device: Device::flex(),
        memory_budget: None,
        stop,
        observer: &mut observer,
    };
    let trainer = if directory.join("config.toml").exists() {
        resume(job).unwrap().0
    } else {
        start(job).unwrap()
    };
    trainer.run().unwrap()
}

fn metrics(directory: &Path) -> Vec<StepRecord> {
    let text = fs::read_to_string(directory.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What of the metrics may not differ: all but the clock.
fn timeless(directory: &Path) -> Vec<StepRecord> {
    let mut records = metrics(directory);
    for record in &mut records {
        (record.seconds, record.tokens_per_second) = (0.0, 0.0);
    }
    records
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn killed_after_any_step_and_resumed_is_never_killed() {
    let home = tempfile::tempdir().unwrap();
    let run = world(home.path(), "");
    let straight = home.path().join("straight");
    // What a kill leaves is the directory as it is at some moment: it is copied after each save.
    let mut deaths = Vec::new();
    let report = train(&run, &straight, None, |_| {
        let copy = home.path().join(format!("death-{}", deaths.len()));
        copy_tree(&straight, &copy);
        deaths.push(copy);
    });
    assert!(report.complete);
    let records = metrics(&straight);
    assert_eq!(report.tokens_seen, Tokens(1440));
    // The deaths cover the growth of the batch, the edge of the stages and the wrap of a source.
    assert!(records.iter().any(|r| r.batch_tokens == Tokens(96)), "the batch grew");
    assert!(records.iter().any(|r| r.stage == "two"), "the stage changed");
    assert!(deaths.len() > records.len(), "one death after each step, and at the stages' ends");
    for death in &deaths {
        let again = train(&run, death, None, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), timeless(&straight), "{}", death.display());
        assert_eq!(again.stages, report.stages);
        assert_eq!(again.batch_growths, report.batch_growths);
    }
}

#[test]
fn stopped_twice_is_never_stopped() {
    let home = tempfile::tempdir().unwrap();
    let run = world(home.path(), "");
    let straight = train(&run, &home.path().join("a"), None, |_| {});
    let directory = home.path().join("b");
    let first = train(&run, &directory, Some(3), |_| {});
    assert!(!first.complete);
    let second = train(&run, &directory, Some(9), |_| {});
    assert!(!second.complete);
    let last = train(&run, &directory, None, |_| {});
    assert!(last.complete);
    assert_eq!(last.state_digest, straight.state_digest);
    assert_eq!(timeless(&directory), timeless(&home.path().join("a")));
    // To resume what is complete changes nothing.
    assert_eq!(train(&run, &directory, None, |_| {}).state_digest, straight.state_digest);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let home = tempfile::tempdir().unwrap();
    let run = world(home.path(), "");
    let straight = train(&run, &home.path().join("a"), None, |_| {});
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
        let directory = home.path().join(format!("b{number}"));
        let mut newest = PathBuf::new();
        let _ = train(&run, &directory, Some(6), |path| newest = path.to_owned());
        damage(&newest);
        let (loaded, plan) = planned(&run, &directory);
        let mut observer = |_: &Event<'_>| {};
        let job = Job {
            loaded: &loaded,
            plan: &plan,
            device: Device::flex(),
            memory_budget: None,
            stop: StopFlag::default(),
            observer: &mut observer,
        };
        let (trainer, resumed) = resume(job).unwrap();
        assert_eq!(resumed.skipped.len(), 1);
        let said = resumed.skipped[0].to_string();
        assert!(said.contains(newest.file_name().unwrap().to_str().unwrap()), "{said}");
        assert!(resumed.checkpoint.unwrap() < newest);
        assert_eq!(trainer.run().unwrap().state_digest, straight.state_digest);
    }
}

#[test]
fn a_source_is_read_again_in_another_order() {
    // The small source wraps within the run: 12 windows, and more than 12 draws.
    let home = tempfile::tempdir().unwrap();
    let run = world(home.path(), "");
    let directory = home.path().join("a");
    let mut states = Vec::new();
    let _ = train(&run, &directory, None, |path| {
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
    let home = tempfile::tempdir().unwrap();
    let run = world(home.path(), "");
    let directory = home.path().join("a");
    let _ = train(&run, &directory, Some(2), |_| {});
    let (loaded, plan) = planned(&run, &directory);
    let mut observer = |_: &Event<'_>| {};
    let job = Job {
        loaded: &loaded,
        plan: &plan,
        device: Device::flex(),
        memory_budget: None,
        stop: StopFlag::default(),
        observer: &mut observer,
    };
    let Err(error) = start(job) else { panic!("there is a run already") };
    assert!(error.to_string().contains("terrace resume"), "{error}");
}
