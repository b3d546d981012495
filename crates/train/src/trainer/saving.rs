//! When the state is saved, what is kept, and how a run goes on from it.

use terrace_base::Tokens;
use terrace_checkpoint::{Checkpoint, Facts};
use terrace_policy::cadence::{Cadence, CheckpointFacts, Retention, RetentionPolicy, retain};
use tracing::trace_span;

use super::{StageSpec, Trainer};
use crate::restore::write_segments;
use crate::{Error, Event, HeldOut, RunState};

impl Trainer<'_> {
    pub(super) fn save_is_due(&self, before: Tokens, after: Tokens) -> bool {
        let checkpoint = &self.config.checkpoint;
        let by_tokens = Cadence { every: checkpoint.every_tokens.unwrap_or_default() };
        let steps = self.state.progress.steps;
        let by_steps = checkpoint.every_steps.is_some_and(|n| n > 0 && steps.is_multiple_of(n));
        by_steps || by_tokens.due(before, after)
    }

    /// Saves the whole state, unless this very state is saved already.
    pub(super) fn save(&mut self, stage: &StageSpec) -> Result<(), Error> {
        self.state.controller = self.controller.state().clone();
        if self.saved.as_ref().is_some_and(|(state, _)| *state == self.state) {
            return Ok(());
        }
        let _save = trace_span!("save").entered();
        let logs = self.logs.positions()?;
        let tokens_seen = self.state.progress.tokens_seen;
        let measured = self.measured.as_ref().map(|measured| &measured.held_out);
        let measured = measured.filter(|held_out| held_out.tokens_seen == tokens_seen);
        let facts = Facts {
            tokens_seen,
            step: self.state.progress.steps,
            stage: stage.name.clone(),
            held_out_loss: measured.and_then(HeldOut::mean_nats),
        };
        let mut writer = self.store.begin(facts, self.checkpoint_bytes)?;
        write_segments(&mut writer, &self.model, &self.optimizer)?;
        writer.state(&self.state)?;
        writer.logs(&logs)?;
        let saved = writer.finish()?;
        self.observer.event(&Event::Saved { path: &saved.path, bytes: saved.bytes });
        self.saved = Some((self.state.clone(), saved));
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
