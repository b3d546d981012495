//! What is written down about a step, taken or refused.

use std::time::Instant;

use terrace_base::Tokens;
use terrace_policy::batch::SourceLoss as ObservedLoss;

use super::{StageSpec, Trainer};
use crate::{Applied, BadStep, Error, Event, StepBatch, StepRecord};

impl Trainer<'_> {
    pub(super) fn record(
        &mut self,
        stage: &StageSpec,
        batch: &StepBatch,
        applied: &Applied,
        losses: &[ObservedLoss],
        learning_rate: f64,
        begin: Instant,
    ) -> StepRecord {
        let tokens = batch.draws.len() as u64 * self.config.training.sequence_length as u64;
        let seconds = begin.elapsed().as_secs_f64();
        self.timing.tokens += tokens;
        self.timing.seconds += seconds;
        let nats: f64 = losses.iter().map(|loss| loss.nats).sum();
        let per_source = self.loader.names().iter().zip(losses);
        StepRecord {
            step: self.state.progress.steps,
            stage: stage.name.clone(),
            tokens_seen: self.state.progress.tokens_seen,
            batch_tokens: Tokens(tokens),
            target_tokens: applied.target_tokens,
            nats: nats / applied.target_tokens as f64,
            nats_per_source: per_source
                .filter(|(_, loss)| loss.targets > 0)
                .map(|(name, loss)| (name.clone(), loss.nats / loss.targets as f64))
                .collect(),
            learning_rate,
            gradient_norm: applied.gradient_norm,
            token_digest: batch.token_digest(),
            seconds,
            tokens_per_second: tokens as f64 / seconds,
            mfu: None,
        }
    }

    pub(super) fn refused(
        &mut self,
        stage: &StageSpec,
        batch: &StepBatch,
        reason: String,
        rows: &[usize],
    ) -> Result<(), Error> {
        self.state.progress.consecutive_bad_steps += 1;
        let consecutive = self.state.progress.consecutive_bad_steps;
        let suspects: Vec<_> = if rows.is_empty() {
            batch.draws.iter().collect()
        } else {
            rows.iter().map(|row| &batch.draws[*row]).collect()
        };
        let bad = BadStep {
            tokens_seen: self.state.progress.tokens_seen,
            reason,
            windows: suspects.into_iter().map(|draw| self.loader.name(draw)).collect(),
            consecutive,
        };
        self.note("bad_step", serde_json::to_value(&bad).expect("records always serialise"))?;
        self.observer.event(&Event::BadStep(&bad));
        if consecutive < self.config.training.max_consecutive_bad_steps {
            return Ok(());
        }
        self.save(stage)?;
        let (_, saved) = self.saved.as_ref().expect("it was just saved");
        Err(Error::BadSteps {
            count: consecutive,
            tokens_seen: bad.tokens_seen.0,
            checkpoint: saved.path.clone(),
        })
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
