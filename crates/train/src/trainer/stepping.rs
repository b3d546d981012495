//! What is written down about a step, taken or refused.

use std::time::Instant;

use terrace_base::Tokens;
use terrace_config::GradientClipping;
use terrace_policy::batch::SourceLoss as ObservedLoss;
use terrace_policy::spike::{Action, Rewind};

use super::spiking::{Spike, span};
use super::{StageSpec, Trainer};
use crate::{Applied, BadStep, Clipping, Error, Event, StepBatch, StepRecord, Trained};

impl Trainer<'_> {
    pub(super) fn record(
        &mut self,
        stage: &StageSpec,
        batch: &StepBatch,
        applied: &Applied,
        losses: &[ObservedLoss],
        is_spike: bool,
        begin: Instant,
    ) -> StepRecord {
        let tokens = batch.draws.len() as u64 * self.config.training.sequence_length as u64;
        let seconds = begin.elapsed().as_secs_f64();
        self.timing.tokens += tokens;
        self.timing.seconds += seconds;
        let nats: f64 = losses.iter().map(|loss| loss.nats).sum();
        let per_source = self.loader.names().iter().zip(losses);
        let drawn = per_source.filter(|(_, loss)| loss.targets > 0);
        let noise = self.controller.noise();
        let tokens_per_second = tokens as f64 / seconds;
        StepRecord {
            step: self.state.progress.steps,
            stage: stage.name.clone(),
            tokens_seen: self.state.progress.tokens_seen,
            batch_tokens: Tokens(tokens),
            target_tokens: applied.target_tokens,
            nats: nats / applied.target_tokens as f64,
            nats_per_source: drawn
                .clone()
                .map(|(name, loss)| (name.clone(), loss.nats / loss.targets as f64))
                .collect(),
            target_tokens_per_source: drawn
                .map(|(name, loss)| (name.clone(), loss.targets))
                .collect(),
            learning_rate: applied.learning_rate,
            gradient_norm: applied.gradient_norm,
            noise_scale: noise.and_then(|noise| noise.targets),
            noise_trace: noise.map(|noise| noise.noise_trace),
            noise_gradient_square: noise.map(|noise| noise.gradient_square),
            noise_sample: applied.noise,
            is_spike,
            token_digest: batch.token_digest(),
            seconds,
            tokens_per_second,
            mfu: self.utilisation(stage, tokens_per_second),
        }
    }

    /// None too where only some layers are trained: the others' weights take no gradients, and a step
    /// has fewer operations than are counted.
    fn utilisation(&self, stage: &StageSpec, tokens_per_second: f64) -> Option<f64> {
        let sequence_length = self.config.training.sequence_length;
        let peak = self.peak_flops.filter(|_| stage.trained == Trained::Whole);
        self.model.architecture.utilisation(sequence_length, tokens_per_second, peak)
    }

    /// Whose norm the next step's gradient is scaled down by.
    pub(super) fn clipping(&self) -> Clipping {
        match self.config.training.gradient_clipping {
            GradientClipping::Global => Clipping::Global,
            GradientClipping::PerLayer => Clipping::PerLayer,
            GradientClipping::PreviousNorm => Clipping::Previous(self.state.gradient_norm),
        }
    }

    /// Where to go back to for a spike whose step was applied.
    pub(super) fn rewind_for(&mut self, spike: Option<&Spike>) -> Result<Option<Rewind>, Error> {
        match spike.map(|spike| spike.verdict.action) {
            Some(action @ (Action::Rewind(_) | Action::GiveUp(_))) => {
                Ok(Some(self.back_from(action)?))
            }
            Some(Action::Withhold) => unreachable!("a configuration is checked for this"),
            Some(Action::Apply) | None => Ok(None),
        }
    }

    /// Writes down that a step has made the state worthless; gives where to go back to.
    pub(super) fn lost(
        &mut self,
        batch: &StepBatch,
        reason: String,
        rows: &[usize],
    ) -> Result<Rewind, Error> {
        self.state.progress.consecutive_bad_steps += 1;
        self.note_bad_step(batch, reason, rows)?;
        let action = self.state.spikes.lost(&self.config.spikes, span(batch));
        self.back_from(action)
    }

    /// Where to go back to from a state that must not be kept, if the run may go back once more and
    /// there is a state to go back to.
    fn back_from(&mut self, action: Action) -> Result<Rewind, Error> {
        let (Action::Rewind(rewind) | Action::GiveUp(rewind)) = action else {
            unreachable!("a lost state is gone back for at once")
        };
        // There is nothing to save, and only what is on disk can be gone back to.
        self.finish_saving()?;
        let tokens_seen = self.state.progress.tokens_seen.0;
        let Some((checkpoint, _)) = self.state_before(&rewind)? else {
            let reason = "no valid checkpoint from before it is left".to_owned();
            return Err(Error::Lost { tokens_seen, reason });
        };
        if let Action::Rewind(rewind) = action {
            return Ok(rewind);
        }
        let (reason, path) = (self.rewinds_are_used_up(), checkpoint.path().display());
        let reason = format!("{reason}; the newest state from before it is {path}");
        Err(Error::Lost { tokens_seen, reason })
    }

    fn rewinds_are_used_up(&self) -> String {
        let limit = self.config.spikes.max_rewinds;
        format!("spikes.max_rewinds = {limit} lets the run go back no more")
    }

    /// Writes down that a step was not applied; gives where to go back to if that is called for.
    pub(super) fn refused(
        &mut self,
        stage: &StageSpec,
        batch: &StepBatch,
        reason: String,
        rows: &[usize],
        spike: Option<&Spike>,
    ) -> Result<Option<Rewind>, Error> {
        self.state.progress.consecutive_bad_steps += 1;
        let action = match spike {
            Some(spike) => {
                self.note_spike(batch, Some(spike), false)?;
                spike.verdict.action
            }
            None => {
                self.note_bad_step(batch, reason.clone(), rows)?;
                self.state.spikes.not_finite(&self.config.spikes, span(batch))
            }
        };
        let tokens_seen = self.state.progress.tokens_seen.0;
        let count = self.state.progress.consecutive_bad_steps;
        match action {
            Action::Rewind(rewind) => return Ok(Some(rewind)),
            Action::GiveUp(_) => {
                let reason = self.rewinds_are_used_up();
                return Err(self.give_up(stage, reason)?);
            }
            Action::Apply | Action::Withhold => {}
        }
        if count < self.config.training.max_consecutive_bad_steps {
            return Ok(None);
        }
        self.save(stage)?;
        let (_, saved) = self.saved.as_ref().expect("it was just saved");
        Err(Error::BadSteps { count, tokens_seen, reason, checkpoint: saved.path.clone() })
    }

    fn note_bad_step(
        &mut self,
        batch: &StepBatch,
        reason: String,
        rows: &[usize],
    ) -> Result<(), Error> {
        let suspects: Vec<_> = if rows.is_empty() {
            batch.draws.iter().collect()
        } else {
            rows.iter().map(|row| &batch.draws[*row]).collect()
        };
        let bad = BadStep {
            tokens_seen: self.state.progress.tokens_seen,
            reason,
            windows: suspects.into_iter().map(|draw| self.loader.name(draw)).collect(),
            consecutive: self.state.progress.consecutive_bad_steps,
        };
        self.note("bad_step", serde_json::to_value(&bad).expect("records always serialise"))?;
        self.observer.event(&Event::BadStep(&bad));
        Ok(())
    }
}

pub(super) fn losses_per_source(
    batch: &StepBatch,
    applied: &Applied,
    sources: usize,
) -> Vec<ObservedLoss> {
    let mut losses = vec![ObservedLoss { nats: 0.0, targets: 0 }; sources];
    let rows = batch.micro_batches.iter().flat_map(|m| m.sources.iter().zip(&m.target_tokens));
    for ((source, targets), nats) in rows.zip(&applied.nats_per_row) {
        losses[*source].nats += f64::from(*nats);
        losses[*source].targets += u64::from(*targets);
    }
    losses
}
