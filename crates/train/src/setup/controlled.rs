//! What becomes of the batch when its settings change in a run that has begun.

use super::history::{History, HistoryEntry};
use crate::Error;
use crate::trainer::Trainer;

impl Trainer<'_> {
    /// Holds to what the run has followed since it had seen so many tokens, to where it goes back:
    /// the decisions there do not know of it.
    pub(crate) fn follow_since(&mut self, tokens_seen: terrace_base::Tokens) -> Result<(), Error> {
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
        self.heed_settings()
    }

    /// Has the controller go on from a state that may have been saved under other settings: by this
    /// run before they were changed, or by the run that this one is a child of.
    ///
    /// The state itself knows under which, so that nothing else has to be asked.
    pub(crate) fn heed_settings(&mut self) -> Result<(), Error> {
        let progress = self.state.progress;
        let current = self.stages.get(progress.stage).filter(|_| progress.entered);
        let budget = current.map(|stage| stage.budget);
        match self.controller.heed(progress.tokens_seen, budget) {
            Some(decision) => self.decided(&decision),
            None => Ok(()),
        }
    }
}
