//! What becomes of the batch when its settings change in a run that has begun.

use terrace_base::Tokens;
use terrace_policy::batch::{StageBatch, StageInfo};

use super::controller;
use super::history::HistoryEntry;
use crate::Error;
use crate::trainer::Trainer;

impl Trainer<'_> {
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
        let mut controller = controller(&self.config)?;
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
        });
        decision.from_sequences = carried;
        decision.reason = format!("other batch settings: {}", decision.reason);
        self.controller = controller;
        self.decided(&decision)
    }
}
