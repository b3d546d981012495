//! What a run says it did.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, Tokens};
use terrace_policy::batch::Decision;

use crate::{EvaluationRecord, SourceScore, TaskScore, TwinCosine};

/// The outcome of a run, as `--json` prints it and `report.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Where everything is.
    pub run_directory: PathBuf,
    /// Whether all stages are done; false if the run was told to stop.
    pub complete: bool,
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// How the base was made deeper; none if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upscale: Option<UpscaleReport>,
    /// The held-out bits per byte of each source before the first stage: of the up-scaled model if
    /// there is one.
    pub bits_per_byte_before: BTreeMap<String, f64>,
    /// The stages that were reached.
    pub stages: Vec<StageReport>,
    /// Every growth of the batch.
    pub batch_growths: Vec<BatchGrowth>,
    /// Every evaluation of the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluations: Vec<EvaluationReport>,
    /// Tokens over the wall time of the steps of this process; none if it took no step.
    pub tokens_per_second: Option<f64>,
    /// The digest of weights, moments, cursors, controller and seeds.
    pub state_digest: Fingerprint,
}

/// How the base was made deeper, and what became of the copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpscaleReport {
    /// The layers that were repeated, as written.
    pub selection: String,
    /// The layers of the base.
    pub source_layers: usize,
    /// The layers of the model.
    pub layers: usize,
    /// The held-out bits per byte of each source with the base.
    pub bits_per_byte_base: BTreeMap<String, f64>,
    /// How far each copy has drifted from its twin.
    pub twins: Vec<TwinCosine>,
}

/// What came of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// What it was of, for people.
    pub label: String,
    /// The score of each task.
    pub tasks: Vec<TaskScore>,
    /// The bits per byte of each source's held-out text.
    pub bits_per_byte: BTreeMap<String, f64>,
}

impl From<&EvaluationRecord> for EvaluationReport {
    fn from(record: &EvaluationRecord) -> Self {
        let bits = |(name, score): (&String, &SourceScore)| (name.clone(), score.bits_per_byte);
        Self {
            tokens_seen: record.tokens_seen,
            label: record.label(),
            tasks: record.tasks.clone(),
            bits_per_byte: record.sources.iter().map(bits).collect(),
        }
    }
}

/// One stage of the outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Tokens seen in it.
    pub tokens: Tokens,
    /// Steps taken in it.
    pub steps: u64,
    /// The held-out bits per byte of each source at its end; empty if it has not ended.
    pub bits_per_byte: BTreeMap<String, f64>,
}

impl BatchGrowth {
    /// What a decision to grow did, in tokens.
    pub(crate) fn of(decision: &Decision, sequence_length: u64, reason: String) -> Self {
        Self {
            tokens_seen: decision.tokens_seen,
            from_tokens: Tokens(decision.from_sequences * sequence_length),
            to_tokens: Tokens(decision.to_sequences * sequence_length),
            reason,
        }
    }
}

/// One growth of the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchGrowth {
    /// Tokens seen when it was decided.
    pub tokens_seen: Tokens,
    /// The batch before.
    pub from_tokens: Tokens,
    /// The batch after.
    pub to_tokens: Tokens,
    /// Why, in words with the numbers.
    pub reason: String,
}
