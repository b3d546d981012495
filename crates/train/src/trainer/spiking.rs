//! What is written down about a step whose loss or gradient norm spikes.

use terrace_policy::spike::{Action, Signal, SpikeEvidence, StepLoss, Verdict};

use super::Trainer;
use crate::{Applied, Error, Event, SpikeStep, SpikeWindow, StepBatch};

/// The windows of a spiking step that are named: those of the highest loss.
const NAMED_WINDOWS: usize = 16;

/// A step that spikes, and what is to become of it.
pub(super) struct Spike {
    pub(super) verdict: Verdict,
    evidence: SpikeEvidence,
    applied: Applied,
}

impl Spike {
    /// What the verdict says of a step with these numbers; none if it is no spike.
    pub(super) fn of(verdict: Verdict, applied: &Applied) -> Option<Self> {
        let evidence = verdict.evidence?;
        Some(Self { verdict, evidence, applied: applied.clone() })
    }

    /// Why its update is not applied, if it is not.
    pub(super) fn reason_to_withhold(&self) -> Option<String> {
        let what = match self.evidence.signal {
            Signal::Loss => "the loss spiked",
            Signal::LogGradientNorm => "the gradient norm spiked",
        };
        (self.verdict.action != Action::Apply).then(|| what.to_owned())
    }
}

/// A step as it is judged; `whole` is the number of sequences that a step has if nothing cuts it.
pub(super) fn step_loss(batch: &StepBatch, applied: &Applied, whole: u64) -> StepLoss {
    let nats: f64 = applied.nats_per_row.iter().copied().map(f64::from).sum();
    let [start, end] = span(batch);
    StepLoss {
        start,
        end,
        batch_sequences: whole,
        nats: nats / applied.target_tokens as f64,
        gradient_norm: applied.gradient_norm,
    }
}

/// The first sequence of a step and the one behind its last.
pub(super) fn span(batch: &StepBatch) -> [u64; 2] {
    let [first, last] = [batch.draws.first(), batch.draws.last()];
    let [first, last] = [first, last].map(|draw| draw.expect("a step has sequences").index.0);
    [first, last + 1]
}

impl Trainer<'_> {
    /// Writes down that a step spiked, if it did.
    pub(super) fn note_spike(
        &mut self,
        batch: &StepBatch,
        spike: Option<&Spike>,
        applied: bool,
    ) -> Result<(), Error> {
        let Some(spike) = spike else { return Ok(()) };
        let numbers = &spike.applied;
        let step = SpikeStep {
            tokens_seen: self.state.progress.tokens_seen,
            nats: step_loss(batch, numbers, 0).nats,
            gradient_norm: numbers.gradient_norm,
            evidence: spike.evidence,
            applied,
            windows: self.windows_of_highest_loss(batch, numbers),
            consecutive: self.state.progress.consecutive_bad_steps,
        };
        self.note("spike", serde_json::to_value(&step).expect("records always serialise"))?;
        self.observer.event(&Event::Spike(&step));
        Ok(())
    }

    fn windows_of_highest_loss(&self, batch: &StepBatch, applied: &Applied) -> Vec<SpikeWindow> {
        let targets = batch.micro_batches.iter().flat_map(|micro| &micro.target_tokens);
        let nats = applied.nats_per_row.iter().zip(targets);
        let nats = nats.map(|(nats, targets)| f64::from(*nats) / f64::from(*targets));
        let mut rows: Vec<_> = nats.zip(&batch.draws).collect();
        // A window without a target has no loss: zero over zero sorts above all numbers.
        rows.retain(|(nats, _)| nats.is_finite());
        rows.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let worst = rows.into_iter().take(NAMED_WINDOWS);
        worst.map(|(nats, draw)| SpikeWindow { nats, name: self.loader.name(draw) }).collect()
    }
}
