//! What a run has on record: its steps, and its held-out losses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use terrace_checkpoint::RunLayout;
use terrace_train::{History, StepRecord, read_steps};

use super::{RunLine, StretchLoss};
use crate::commands::training::train_error;
use crate::error::CliError;

/// The record of one run.
pub(super) struct Record {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) parent: Option<PathBuf>,
    /// The applied steps, in order.
    pub(super) steps: Vec<StepRecord>,
    /// Bits per byte of each source, by tokens seen; the last measurement where there are several.
    pub(super) held_out: BTreeMap<u64, BTreeMap<String, f64>>,
}

impl Record {
    /// Reads the logs of a run directory; a line that a kill left unfinished is no line.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let layout = RunLayout::new(path);
        if !layout.is_run() {
            let error = terrace_train::Error::NotARun { path: path.to_owned() };
            return Err(train_error(error));
        }
        let history = History::open(&layout).map_err(train_error)?;
        let config = history.in_force().map_err(train_error)?.config;
        let parent = history.entries().first().and_then(|entry| entry.parent.as_ref());
        Ok(Self {
            path: path.to_owned(),
            name: config.name,
            parent: parent.map(|parent| parent.path.clone()),
            steps: read_steps(&layout).map_err(train_error)?,
            held_out: held_out(&lines(&layout.journal())?),
        })
    }

    /// The tokens seen before its first step.
    pub(super) fn start_tokens(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.tokens_seen.0 - step.batch_tokens.0)
    }

    /// The tokens seen after its last step.
    pub(super) fn tokens_seen(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.tokens_seen.0)
    }

    /// The mean losses of the steps that end in `from + 1 ..= to`, weighted by their targets.
    pub(super) fn losses(&self, from: u64, to: u64) -> StretchLoss {
        let first = self.steps.partition_point(|step| step.tokens_seen.0 <= from);
        let last = self.steps.partition_point(|step| step.tokens_seen.0 <= to);
        let steps = &self.steps[first..last.max(first)];
        let (mut all, mut sources) = (Mean::default(), BTreeMap::<String, Mean>::new());
        for step in steps {
            all.add(step.nats, step.target_tokens);
            for (source, nats) in &step.nats_per_source {
                let targets = step.target_tokens_per_source.get(source).copied().unwrap_or(0);
                sources.entry(source.clone()).or_default().add(*nats, targets);
            }
        }
        StretchLoss {
            nats: all.value(),
            sources: sources.into_iter().filter_map(|(s, mean)| Some((s, mean.value()?))).collect(),
            steps: steps.len(),
            batch_tokens: steps.last().map(|step| step.batch_tokens.0),
        }
    }

    /// The run as the answer lists it.
    pub(super) fn line(&self) -> RunLine {
        RunLine {
            path: self.path.clone(),
            name: self.name.clone(),
            parent: self.parent.clone(),
            from_tokens: self.start_tokens(),
            tokens_seen: self.tokens_seen(),
            steps: self.steps.len(),
        }
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    weight: u64,
}

impl Mean {
    fn add(&mut self, value: f64, weight: u64) {
        self.sum += value * weight as f64;
        self.weight += weight;
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0).then(|| self.sum / self.weight as f64)
    }
}

fn held_out(journal: &[Value]) -> BTreeMap<u64, BTreeMap<String, f64>> {
    let measured = journal.iter().filter(|line| line["event"] == "held_out");
    // A base that was made deeper afterwards is another model.
    let own = measured.filter(|line| line["details"]["model"] != "base");
    own.filter_map(|line| {
        let details = &line["details"];
        let bits = serde_json::from_value(details["bits_per_byte"].clone()).ok()?;
        Some((details["tokens_seen"].as_u64()?, bits))
    })
    .collect()
}

/// The whole lines of a log.
fn lines(path: &Path) -> Result<Vec<Value>, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| CliError::read(path, error))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            CliError::input(format!("{}:{}: {error}", path.display(), index + 1)).at(path)
        })
    };
    whole.lines().enumerate().map(parse).collect()
}
