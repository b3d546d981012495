//! Going back to before a spike, and passing over what led there.

use serde_json::json;
use terrace_base::Tokens;
use terrace_checkpoint::Checkpoint;
use terrace_policy::spike::Rewind;

use super::{StageSpec, Trainer};
use crate::restore::{read_moments, read_weights};
use crate::{Error, Event, RewindRecord, RunState, read_evaluations};

impl Trainer<'_> {
    /// Passes over the sequences ahead that the run has gone back for.
    ///
    /// They count as seen: the clock and the stage go on, the optimizer does not. The controller
    /// forgets its losses here and not where the run went back to, so that how the run goes on does
    /// not depend on how far back that was.
    pub(super) fn pass_over(&mut self, stage: &StageSpec) -> Result<(), Error> {
        let start = self.state.cursor.index().0;
        let left = stage.sequences - self.state.progress.stage_sequences;
        let mut end = start;
        while let Some(skip) = self.state.journal.covering(end) {
            end = skip.end;
        }
        let end = end.min(start + left);
        if end == start {
            return Ok(());
        }
        self.loader.schedule().advance_to(&mut self.state.cursor, end);
        let progress = &mut self.state.progress;
        progress.stage_sequences += end - start;
        progress.tokens_seen.0 += (end - start) * self.config.training.sequence_length as u64;
        let tokens_seen = progress.tokens_seen;
        let reason = format!("the sequences {start} to {} are passed over", end - 1);
        self.note("passed_over", json!({"start": start, "end": end, "tokens_seen": tokens_seen}))?;
        let decision = self.controller.rebaseline(tokens_seen, reason);
        self.decided(&decision)
    }

    /// The sequences of the next step: a batch, unless the stage, its mixture or what is passed over
    /// cuts it.
    pub(super) fn next_sequences(&mut self, stage: &StageSpec) -> Result<u64, Error> {
        let left = stage.sequences - self.state.progress.stage_sequences;
        if left == 0 {
            return Ok(0);
        }
        let left = left.min(self.follow_mixture(stage)?);
        let here = self.state.cursor.index().0;
        let until_skip = self.state.journal.next_start(here).map_or(left, |start| start - here);
        Ok(self.controller.batch_sequences().min(left).min(until_skip))
    }

    /// Goes back to the newest state from before a spike.
    ///
    /// Killed anywhere in here, the run resumes from a state before the spike or within it, meets the
    /// spike again, and goes back again: newer states go first, the newest of them before all, and
    /// the one gone back to is replaced, in one step, by itself with what is now known.
    pub(super) fn rewind(&mut self, stage: &StageSpec, mut rewind: Rewind) -> Result<(), Error> {
        // Only what is on disk can be gone back to, or removed.
        self.finish_saving()?;
        let Some((checkpoint, saved)) = self.state_before(&rewind)? else {
            let reason = "no valid checkpoint from before it is left".to_owned();
            return Err(self.give_up(stage, reason)?);
        };
        rewind.skip_start = rewind.skip_start.max(saved.cursor.index().0);
        let record = RewindRecord {
            from_tokens: self.state.progress.tokens_seen,
            from_step: self.state.progress.steps,
            to_tokens: checkpoint.tokens_seen(),
            to_step: saved.progress.steps,
            skip_start: rewind.skip_start,
            skip_end: rewind.skip_end,
            rewinds: rewind.rewinds,
        };
        self.remove_newer(checkpoint.tokens_seen())?;
        self.take_up(&checkpoint, saved, &rewind)?;
        self.logs.go_back(&checkpoint.logs()?, checkpoint.tokens_seen())?;
        self.evaluations = read_evaluations(&self.layout)?;
        self.follow_since(checkpoint.tokens_seen())?;
        self.note("rewind", serde_json::to_value(&record).expect("records always serialise"))?;
        self.observer.event(&Event::Rewound(&record));
        let stage = self.stage_here().clone();
        self.save(&stage)
    }

    /// The newest valid state that has seen nothing of what is to be passed over, or, where that is
    /// gone, nothing of the spike.
    pub(super) fn state_before(
        &self,
        rewind: &Rewind,
    ) -> Result<Option<(Checkpoint, RunState)>, Error> {
        let checkpoints = self.store.list()?.checkpoints;
        for limit in [rewind.skip_start, rewind.began] {
            for checkpoint in checkpoints.iter().rev() {
                let Ok(saved) = checkpoint.state::<RunState>() else { continue };
                if saved.cursor.index().0 <= limit && checkpoint.verify().is_ok() {
                    return Ok(Some((checkpoint.clone(), saved)));
                }
            }
        }
        Ok(None)
    }

    fn remove_newer(&mut self, tokens_seen: Tokens) -> Result<(), Error> {
        let checkpoints = self.store.list()?.checkpoints;
        for checkpoint in checkpoints.iter().rev() {
            if checkpoint.tokens_seen() > tokens_seen {
                self.store.remove(checkpoint.tokens_seen())?;
            }
        }
        Ok(())
    }

    /// Becomes the run of a checkpoint that knows what to pass over.
    fn take_up(
        &mut self,
        checkpoint: &Checkpoint,
        saved: RunState,
        rewind: &Rewind,
    ) -> Result<(), Error> {
        let device = self.model.device();
        read_weights(checkpoint, &mut self.model, &device)?;
        read_moments(checkpoint, &self.model, &mut self.optimizer, &device)?;
        self.optimizer.set_counts(saved.segment_updates.clone(), saved.ages());
        let given_up = self.state.spikes.clone();
        self.adopt(saved)?;
        self.state.spikes.rewound(&given_up, rewind);
        let here = self.state.cursor.index().0;
        for [start, end] in self.state.spikes.passed_over() {
            let mut cursor = self.state.cursor.clone();
            self.loader.schedule().advance_to(&mut cursor, (*start).max(here));
            self.loader.schedule().skip_to(&mut cursor, &mut self.state.journal, *end);
        }
        self.measured = None;
        self.saved = None;
        self.resumed_from = None;
        Ok(())
    }

    /// Saves the state and gives the error that ends the run.
    pub(super) fn give_up(&mut self, stage: &StageSpec, reason: String) -> Result<Error, Error> {
        self.save(stage)?;
        let (_, saved) = self.saved.as_ref().expect("it was just saved");
        let tokens_seen = self.state.progress.tokens_seen.0;
        Ok(Error::Spikes { tokens_seen, reason, checkpoint: saved.path.clone() })
    }
}
