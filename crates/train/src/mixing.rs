//! Following the mixture through the changes within a stage.

use terrace_base::Tokens;

use crate::Error;
use crate::trainer::{StageSpec, Trainer};

impl StageSpec {
    /// The share of each source in the mixture-adjusted loss, in a segment of this stage.
    fn weights_in(&self, segment: usize) -> &[f64] {
        let later = segment.checked_sub(self.first_segment + 1);
        let mix = later.and_then(|place| self.later_mixes.get(place).or(self.later_mixes.last()));
        mix.unwrap_or(&self.reference_weights)
    }

    /// The same for a step that begins when so many tokens have been seen.
    pub(crate) fn weights_at(&self, tokens_seen: Tokens) -> &[f64] {
        let begun = self.later_begins.iter().take_while(|begin| **begin <= tokens_seen).count();
        self.weights_in(self.first_segment + begun)
    }
}

impl Trainer<'_> {
    /// Tells the controller where the mixture changes; gives the sequences to the next change,
    /// which no step crosses.
    ///
    /// What the controller goes by is part of the saved state, so that a resumed run tells it
    /// exactly where a run that never stopped does.
    pub(crate) fn follow_mixture(&mut self, stage: &StageSpec) -> Result<u64, Error> {
        let schedule = self.loader.schedule();
        let (segment, left) = schedule.upcoming(&self.state.cursor, &self.state.journal);
        let weights = stage.weights_in(segment);
        if self.controller.reference_weights() != Some(weights) {
            let tokens_seen = self.state.progress.tokens_seen;
            let decision = self.controller.on_mix_change(weights, tokens_seen);
            self.decided(&decision)?;
        }
        // Behind the end of the schedule, the loader says what is left.
        Ok(if left == 0 { u64::MAX } else { left })
    }
}
