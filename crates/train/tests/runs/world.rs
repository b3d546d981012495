//! Two small editions, a run file of two stages, and the running of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use terrace_base::{Fingerprint, Seed};
use terrace_config::{Loaded, PlanOptions, RunConfig, gather, load, resolve};
use terrace_data::{EditionHeader, Packing, write_documents};
use terrace_model::{CausalLm, hf, initialize};
use terrace_train::{
    Asked, Error, Evaluator, Event, Job, Resumed, Scores, StepRecord, StopFlag, TrainReport,
    resume, start,
};

/// The tokens that the model knows; the last one is in no document unless a test puts it there.
pub(crate) const VOCABULARY: usize = 64;
/// The peak that the runs are told, in operations a second.
pub(crate) const PEAK_FLOPS: f64 = 1e12;
/// The targets in a sequence.
pub(crate) const LENGTH: usize = 16;

/// Nothing is trained while a checkpoint is written.
pub(crate) const AT_ONCE: (&str, &str) = ("checkpoint.asynchronous", "false");

const RUN: &str = r#"
name = "tiny"
seed = 5
run_directory = "run"
[model.architecture]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 64
max_position_embeddings = 16
rms_norm_eps = 1e-6
rope_theta = 10000.0
tie_word_embeddings = false
[training]
sequence_length = 16
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
mixture = { prose = 3, code = 1 }
[[stages]]
name = "two"
budget_tokens = 640
mixture = { prose = 1, code = 1 }
mixture_end = { prose = 1, code = 3 }
"#;

/// A folder with data and a run file, and what is set in place of the file's values.
pub(crate) struct World {
    home: tempfile::TempDir,
    overrides: Vec<(String, String)>,
}

impl World {
    /// Two sources of 40 and 12 windows, so that the smaller one is read more than once.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for (source, windows) in [("prose", 40), ("code", 12)] {
            edition(&home.path().join(source), source, &documents(source, windows, 1));
            let held_out = home.path().join(source).join("held_out");
            edition(&held_out, source, &documents(source, 3, 2));
        }
        fs::write(home.path().join("run.toml"), RUN).unwrap();
        Self { home, overrides: Vec::new() }
    }

    /// A world whose base model is random but for what `change` does to it.
    pub(crate) fn based_on(change: impl FnOnce(&mut CausalLm)) -> Self {
        let world = Self::new();
        let architecture = world.loaded(&world.path("run")).config.model.architecture.unwrap();
        let mut model = initialize(&architecture, Seed(3), &Device::flex());
        change(&mut model);
        let base = world.path("base");
        fs::create_dir(&base).unwrap();
        hf::save(&model, &base, hf::SaveOptions::default()).unwrap();
        // It has to be there, but training reads tokens, not text.
        fs::write(base.join("tokenizer.json"), "{}").unwrap();
        let path = format!("{:?}", base.display());
        world.set(&[("model.path", &path)])
    }

    /// Replaces values of the run file.
    pub(crate) fn set(mut self, values: &[(&str, &str)]) -> Self {
        let owned = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.overrides.extend(owned);
        self
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The run file as it is for a run in `directory`.
    pub(crate) fn loaded(&self, directory: &Path) -> Loaded<RunConfig> {
        let mut overrides = self.overrides.clone();
        overrides.push(("run_directory".to_owned(), format!("{:?}", directory.display())));
        // How often the state is saved is not part of it: a resumed run saves at the stages' ends.
        if is_run(directory) {
            overrides.push(("checkpoint.every_steps".to_owned(), "1000".to_owned()));
        }
        load(&self.path("run.toml"), &overrides).unwrap()
    }

    /// Hands the job of a run in `directory` to `then`.
    pub(crate) fn job<T>(
        &self,
        directory: &Path,
        stop: StopFlag,
        on_event: impl FnMut(&Event<'_>),
        then: impl FnOnce(Job<'_>) -> T,
    ) -> T {
        self.job_with(directory, None, stop, on_event, then)
    }

    /// As [`job`](Self::job), with an evaluator.
    pub(crate) fn job_with<T>(
        &self,
        directory: &Path,
        evaluator: Option<&mut dyn Evaluator>,
        stop: StopFlag,
        mut on_event: impl FnMut(&Event<'_>),
        then: impl FnOnce(Job<'_>) -> T,
    ) -> T {
        let loaded = self.loaded(directory);
        let facts = gather(&loaded.config).unwrap();
        let plan = resolve(&loaded, &facts, &PlanOptions::default()).unwrap();
        then(Job {
            loaded: &loaded,
            plan: &plan,
            device: Device::flex(),
            memory_budget: None,
            peak_flops: Some(PEAK_FLOPS),
            stop,
            observer: &mut on_event,
            evaluator: evaluator.map(|evaluator| evaluator as &mut dyn Evaluator),
        })
    }

    /// Trains to the end, or resumes if a run is there.
    pub(crate) fn attempt(
        &self,
        directory: &Path,
        on_event: impl FnMut(&Event<'_>),
    ) -> Result<(TrainReport, Option<Resumed>), Box<Error>> {
        self.job(directory, StopFlag::default(), on_event, |job| {
            if is_run(directory) {
                let (trainer, resumed) = resume(job)?;
                Ok((trainer.run()?, Some(resumed)))
            } else {
                Ok((start(job)?.run()?, None))
            }
        })
    }

    /// Trains to the end, or resumes if a run is there; `at_save` sees each checkpoint as it is
    /// made.
    pub(crate) fn train(&self, directory: &Path, mut at_save: impl FnMut(&Path)) -> TrainReport {
        let on_event = |event: &Event<'_>| {
            if let Event::Saved { path, .. } = event {
                at_save(path);
            }
        };
        self.attempt(directory, on_event).unwrap().0
    }

    /// Trains to the end with evaluations of held-out text.
    pub(crate) fn evaluate(&self, directory: &Path) -> TrainReport {
        let stop = StopFlag::default();
        self.job_with(
            directory,
            Some(&mut WithoutTasks),
            stop,
            |_| {},
            |job| start(job).unwrap().run().unwrap(),
        )
    }

    /// Trains or resumes, and asks for a stop in the step of this number.
    pub(crate) fn train_until(&self, directory: &Path, step: u64) -> TrainReport {
        let stop = StopFlag::default();
        let flag = stop.clone();
        let on_event = move |event: &Event<'_>| {
            if matches!(event, Event::Step(record) if record.step == step) {
                flag.request();
            }
        };
        self.job(directory, stop, on_event, |job| {
            let trainer =
                if is_run(directory) { resume(job).unwrap().0 } else { start(job).unwrap() };
            trainer.run().unwrap()
        })
    }

    /// Trains to the end; the folder as a kill after each save would have left it is copied.
    pub(crate) fn train_and_die(&self, directory: &Path) -> (TrainReport, Vec<PathBuf>) {
        let mut deaths = Vec::new();
        let report = self.train(directory, |_| {
            let copy = directory.with_extension(format!("death-{}", deaths.len()));
            copy_tree(directory, &copy);
            deaths.push(copy);
        });
        (report, deaths)
    }
}

/// An evaluator of a run without tasks: its held-out text alone is measured.
pub(crate) struct WithoutTasks;

impl Evaluator for WithoutTasks {
    fn evaluate(
        &mut self,
        _: &Asked<'_>,
    ) -> Result<Option<Scores>, Box<dyn std::error::Error + Send + Sync>> {
        unreachable!("there is no task to ask")
    }
}

pub(crate) fn is_run(directory: &Path) -> bool {
    directory.join("config.toml").exists()
}

/// Documents of uneven lengths; every token is 1 to 62, 0 ends a document.
pub(crate) fn documents(source: &str, windows: usize, seed: u64) -> Vec<Vec<u32>> {
    let stream = Seed(seed).stream(source);
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
            (1..length).map(|i| 1 + ((i as u64 * 7 + next(5)) % 62) as u32).collect();
        document.push(0);
        left -= length;
        documents.push(document);
    }
    documents
}

/// Writes an edition.
pub(crate) fn edition(folder: &Path, source: &str, documents: &[Vec<u32>]) {
    let header = EditionHeader {
        source: source.to_owned(),
        sequence_length: LENGTH,
        packing: Packing::ConcatAndChunk,
        eos_token_id: Some(0),
        tokenizer: Fingerprint::of_bytes(b"tiny"),
        byte_lengths: Arc::from(vec![1u32; VOCABULARY]),
    };
    fs::create_dir_all(folder).unwrap();
    write_documents(folder, header, documents).unwrap();
}

/// The lines of a log of a run.
pub(crate) fn lines(directory: &Path, log: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(directory.join(log)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What of the metrics may not differ between two runs: all but the clock.
pub(crate) fn timeless(directory: &Path) -> Vec<StepRecord> {
    let records = lines(directory, "metrics.jsonl").into_iter();
    let mut records: Vec<StepRecord> =
        records.map(|line| serde_json::from_value(line).unwrap()).collect();
    for record in &mut records {
        (record.seconds, record.tokens_per_second, record.mfu) = (0.0, 0.0, None);
    }
    records
}

/// The checkpoint of the most tokens.
pub(crate) fn newest_checkpoint(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory.join("checkpoints")).unwrap();
    entries.map(|entry| entry.unwrap().path()).max().unwrap()
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
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
