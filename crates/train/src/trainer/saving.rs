//! When the state is saved, what is kept, and how a run goes on from it.

use terrace_base::Tokens;
use terrace_checkpoint::{Checkpoint, CheckpointWriter, Facts, Saved};
use terrace_policy::cadence::{Cadence, CheckpointFacts, Retention, RetentionPolicy, retain};
use tracing::trace_span;

use super::writing::{Snapshot, Writing};
use super::{StageSpec, Trainer};
use crate::{Error, Event, HeldOut, RunState};

impl Trainer<'_> {
    pub(super) fn save_is_due(&self, before: Tokens, after: Tokens) -> bool {
        let checkpoint = &self.config.checkpoint;
        let by_tokens = Cadence { every: checkpoint.every_tokens.unwrap_or_default() };
        let steps = self.state.progress.steps;
        let by_steps = checkpoint.every_steps.is_some_and(|n| n > 0 && steps.is_multiple_of(n));
        by_steps || by_tokens.due(before, after)
    }

    /// Saves the whole state, unless this very state is saved already; it is on disk then.
    pub(super) fn save(&mut self, stage: &StageSpec) -> Result<(), Error> {
        self.save_now(stage, false)
    }

    /// As [`save`](Self::save), of a state that nothing but an evaluation asks for.
    pub(super) fn save_for_evaluation(&mut self, stage: &StageSpec) -> Result<(), Error> {
        self.save_now(stage, true)
    }

    fn save_now(&mut self, stage: &StageSpec, for_evaluation: bool) -> Result<(), Error> {
        self.finish_saving()?;
        if let Some((snapshot, writer)) = self.snapshot(stage, for_evaluation)? {
            let _save = trace_span!("save").entered();
            let (state, saved) = snapshot.write(writer)?;
            self.note_saved(state, saved)?;
        }
        Ok(())
    }

    /// As [`save`](Self::save), but training may go on before it is on disk, where the run file lets it.
    pub(super) fn save_behind(&mut self, stage: &StageSpec) -> Result<(), Error> {
        if !self.saves_behind {
            return self.save(stage);
        }
        // One is written at a time: a disk that is slower than the cadence slows the run down.
        self.finish_saving()?;
        if let Some((snapshot, writer)) = self.snapshot(stage, false)? {
            self.writing = Some(Writing::begin(snapshot, writer)?);
        }
        Ok(())
    }

    /// Takes note of a checkpoint that has come to disk meanwhile, or of why it has not.
    pub(super) fn notice_saved(&mut self) -> Result<(), Error> {
        let is_finished = self.writing.as_ref().is_some_and(Writing::is_finished);
        if is_finished { self.finish_saving() } else { Ok(()) }
    }

    /// Waits until what is being written is on disk.
    pub(super) fn finish_saving(&mut self) -> Result<(), Error> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let (state, saved) = writing.wait()?;
        self.note_saved(state, saved)
    }

    /// The state to be written and where to; none if this very state is saved already.
    fn snapshot(
        &mut self,
        stage: &StageSpec,
        for_evaluation: bool,
    ) -> Result<Option<(Snapshot, CheckpointWriter)>, Error> {
        self.state.controller = self.controller.state().clone();
        if self.saved.as_ref().is_some_and(|(state, _)| *state == self.state) {
            return Ok(None);
        }
        let _snapshot = trace_span!("snapshot").entered();
        let logs = self.logs.positions()?;
        let tokens_seen = self.state.progress.tokens_seen;
        let measured = self.measured.as_ref().map(|measured| &measured.held_out);
        let measured = measured.filter(|held_out| held_out.tokens_seen == tokens_seen);
        let facts = Facts {
            tokens_seen,
            step: self.state.progress.steps,
            stage: stage.name.clone(),
            held_out_loss: measured.and_then(HeldOut::mean_nats),
            for_evaluation,
        };
        let writer = self.store.begin(facts, self.checkpoint_bytes)?;
        let snapshot = Snapshot::new(self.state.clone(), logs, &self.model, &self.optimizer);
        Ok(Some((snapshot, writer)))
    }

    fn note_saved(&mut self, state: RunState, saved: Saved) -> Result<(), Error> {
        self.observer.event(&Event::Saved { path: &saved.path, bytes: saved.bytes });
        self.saved = Some((state, saved));
        self.retain()
    }

    /// Removes the checkpoints that the retention policy gives up.
    fn retain(&mut self) -> Result<(), Error> {
        let checkpoint = &self.config.checkpoint;
        let policy = RetentionPolicy {
            keep_last: checkpoint.keep_last,
            keep_every_tokens: Some(checkpoint.keep_every_tokens).filter(|every| every.0 > 0),
            keep_best: checkpoint.keep_best,
        };
        let saved = self.store.list()?.checkpoints;
        let known = |checkpoint: &Checkpoint| CheckpointFacts {
            tokens_seen: checkpoint.tokens_seen(),
            is_valid: true,
            held_out_nats: checkpoint.facts().held_out_loss,
            for_evaluation: checkpoint.facts().for_evaluation,
        };
        let facts: Vec<CheckpointFacts> = saved.iter().map(known).collect();
        let needed = self.needed_by_a_spike(&saved);
        for (checkpoint, verdict) in saved.iter().zip(retain(&facts, &policy)) {
            if verdict == Retention::Remove && Some(checkpoint.tokens_seen()) != needed {
                self.store.remove(checkpoint.tokens_seen())?;
            }
        }
        Ok(())
    }

    /// While a spike goes on, the newest state from before it.
    fn needed_by_a_spike(&self, saved: &[Checkpoint]) -> Option<Tokens> {
        let first = self.state.spikes.needs_state_before()?;
        let limit = Tokens(first * self.config.training.sequence_length as u64);
        saved.iter().map(Checkpoint::tokens_seen).rfind(|tokens_seen| *tokens_seen <= limit)
    }

    /// Goes on from a saved state.
    pub(crate) fn adopt(&mut self, saved: RunState) -> Result<(), Error> {
        self.state = saved;
        self.state.cursor = self.loader.schedule().resume(&self.state.cursor)?;
        self.controller = self.controller.clone().with_state(self.state.controller.clone());
        Ok(())
    }
}
