//! What becomes of the batch when its settings change in a run that has begun.

use terrace_base::Tokens;
use terrace_policy::batch::{StageBatch, StageInfo};

use super::batch_controller;
use super::history::{History, HistoryEntry};
use crate::Error;
use crate::trainer::Trainer;

impl Trainer<'_> {
    /// Holds to what the run has followed since it had seen so many tokens, to where it goes back:
    /// neither the state there nor the decisions there know of it.
    pub(crate) fn follow_since(&mut self, tokens_seen: Tokens) -> Result<(), Error> {
        let history = History::open(&self.layout)?;
        let entries = history.entries().iter().filter(|entry| entry.tokens_seen >= tokens_seen);
        let since: Vec<HistoryEntry> = entries.cloned().collect();
        let known = std::fs::read_to_string(self.layout.decisions()).unwrap_or_default();
        for decision in since.iter().filter_map(|entry| entry.decision.as_ref()) {
            let line = serde_json::to_string(decision).expect("records always serialise");
            if !known.lines().any(|known| known == line) {
                self.logs.decision(decision)?;
            }
        }
        self.heed_batch_changes(&since)
    }

    /// Begins the controller anew if a configuration that the run follows since its checkpoint has
    /// other batch settings: what was learnt under the others is no evidence for these.
    ///
    /// The batch itself stays as it is, unless `batch.initial_tokens` says another or the mode has
    /// a schedule. The rest of the stage counts as the stage.
    pub(crate) fn heed_batch_changes(&mut self, pending: &[HistoryEntry]) -> Result<(), Error> {
        let mut keys =
            pending.iter().flat_map(|entry| &entry.changes).map(|change| change.key.as_str());
        if !keys.clone().any(|key| key.starts_with("batch.")) {
            return Ok(());
        }
        let is_set = keys.any(|key| key == "batch.initial_tokens");
        let mut controller = batch_controller(&self.config)?;
        let carried = self.controller.batch_sequences();
        let batch = if is_set { controller.batch_sequences() } else { carried };
        let progress = self.state.progress;
        let current = self.stages.get(progress.stage).filter(|_| progress.entered);
        let left = current.map_or(0, |stage| stage.sequences - progress.stage_sequences);
        let (Some(stage), true) = (current, left > 0) else {
            // The next stage begins with it.
            if is_set {
                self.controller = controller;
            }
            return Ok(());
        };
        let weights = self.controller.reference_weights();
        let mut decision = controller.on_stage_start(StageInfo {
            index: progress.stage,
            start_tokens: progress.tokens_seen,
            budget_tokens: Tokens(left * self.config.training.sequence_length as u64),
            batch: StageBatch::Sequences(batch),
            settle_tokens: Tokens(0),
            reference_weights: weights.unwrap_or(&stage.reference_weights).to_vec(),
            trained_parameters: stage.trained_parameters,
        });
        decision.from_sequences = carried;
        decision.reason = format!("other batch settings: {}", decision.reason);
        self.controller = controller;
        self.decided(&decision)
    }
}
