//! What a run says it did.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, Tokens};

/// The outcome of a run, as `--json` prints it and `report.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Where everything is.
    pub run_directory: PathBuf,
    /// Whether all stages are done; false if the run was told to stop.
    pub complete: bool,
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// The held-out bits per byte of each source before the first stage.
    pub bits_per_byte_before: BTreeMap<String, f64>,
    /// The stages that were reached.
    pub stages: Vec<StageReport>,
    /// Every growth of the batch.
    pub batch_growths: Vec<BatchGrowth>,
    /// Tokens over the wall time of the steps of this process; none if it took no step.
    pub tokens_per_second: Option<f64>,
    /// The digest of weights, moments, cursors, controller and seeds.
    pub state_digest: Fingerprint,
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
