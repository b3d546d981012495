//! Asking the model tasks while it is trained: what is asked for, and what is written down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, Tokens};
use terrace_checkpoint::RunLayout;
use terrace_model::CausalLm;

use crate::{Error, StopFlag};

/// Asks a model the tasks of a run; this crate knows neither tasks nor text.
pub trait Evaluator {
    /// Scores a model; none if it was told to stop before the last item was scored.
    ///
    /// What was scored is in the item log: called again with the same model it goes on from there.
    ///
    /// # Errors
    ///
    /// A task cannot be asked, or its log cannot be written.
    fn evaluate(
        &mut self,
        asked: &Asked<'_>,
    ) -> Result<Option<Scores>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What a model scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// What it is called in the item log.
    pub asked_as: String,
    /// The tasks, in the order of the run file.
    pub tasks: Vec<TaskScore>,
}

/// A model that is to be scored.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The model.
    pub model: &'a CausalLm,
    /// What tells it from others: the digest of its state, or of its weights.
    pub digest: Fingerprint,
    /// Where scored items are kept.
    pub items: &'a Path,
    /// Tells the evaluation to stop.
    pub stop: &'a StopFlag,
}

/// The score of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScore {
    /// The task.
    pub task: String,
    /// The metric that stands for it.
    pub metric: String,
    /// Items that were scored.
    pub items: u64,
    /// The score.
    pub value: f64,
    /// Its standard error over the items; null where there is no simple one.
    pub standard_error: Option<f64>,
    /// The score by every metric of the task.
    pub metrics: BTreeMap<String, f64>,
}

/// The loss on the held-out windows of one source, window by window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceScore {
    /// The loss in bits over the bytes of text.
    pub bits_per_byte: f64,
    /// The summed loss of each window, always in the same order.
    pub nats: Vec<f64>,
    /// The bytes of text that the targets of each window stand for.
    pub bytes: Vec<u64>,
}

impl SourceScore {
    /// From the loss and the bytes of each window.
    #[must_use]
    pub fn new(nats: Vec<f64>, bytes: Vec<u64>) -> Self {
        let ratio = nats.iter().sum::<f64>() / bytes.iter().sum::<u64>() as f64;
        Self { bits_per_byte: ratio / std::f64::consts::LN_2, nats, bytes }
    }
}

/// What a model was evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// It is the base that the run's model was made from by repeating layers.
    Base,
    /// The run begins.
    Start,
    /// So many tokens have been seen.
    Tokens,
    /// A stage has ended.
    StageEnd,
}

/// One evaluation, as a line of `evaluations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// What it was done for.
    pub occasion: Occasion,
    /// The stage that goes on, begins, or has ended.
    pub stage: String,
    /// What tells the model from others: the digest of the checkpoint's state; of the base, of its weights.
    pub model: Fingerprint,
    /// The log of scored items, relative to the run directory; null without tasks.
    pub items: Option<PathBuf>,
    /// What the model is called in that log.
    pub asked_as: Option<String>,
    /// Only so many items of each task, or of each of its subsets, were asked.
    pub limit: Option<u64>,
    /// The task files that were asked for.
    pub task_files: Vec<PathBuf>,
    /// The score of each task, in the order of the run file.
    pub tasks: Vec<TaskScore>,
    /// The loss on held-out text, by source.
    pub sources: BTreeMap<String, SourceScore>,
}

impl EvaluationRecord {
    /// A name for people.
    #[must_use]
    pub fn label(&self) -> String {
        match self.occasion {
            Occasion::Base => "base".to_owned(),
            Occasion::Start => "start".to_owned(),
            Occasion::Tokens => format!("at {}", terrace_base::format_count(self.tokens_seen.0)),
            Occasion::StageEnd => format!("after {}", self.stage),
        }
    }
}

/// The evaluations of a run, in order; one that was done once more, for other tasks, counts as it was
/// done last. Empty if there is no log of them.
///
/// # Errors
///
/// The log cannot be read, or a whole line is no evaluation.
pub fn read_evaluations(layout: &RunLayout) -> Result<Vec<EvaluationRecord>, Error> {
    let path = layout.evaluations();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Log { path, source }),
    };
    // What a killed process was writing is no line.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut records: Vec<EvaluationRecord> = Vec::new();
    for (index, line) in whole.lines().enumerate() {
        let record: EvaluationRecord = serde_json::from_str(line).map_err(|error| {
            let line = index + 1;
            let reason =
                format!("line {line} is not an evaluation as this version records it: {error}");
            Error::Foreign { path: path.clone(), reason }
        })?;
        push(&mut records, record);
    }
    Ok(records)
}

/// Adds a record, in place of an earlier one of the same model.
pub(crate) fn push(records: &mut Vec<EvaluationRecord>, record: EvaluationRecord) {
    let place = |of: &EvaluationRecord| (of.tokens_seen, of.occasion == Occasion::Base);
    match records.iter().position(|earlier| place(earlier) == place(&record)) {
        Some(earlier) => records[earlier] = record,
        None => records.push(record),
    }
}
