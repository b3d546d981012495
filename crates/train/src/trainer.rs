//! The step loop.

mod evaluating;
mod reporting;
mod rewinding;
mod saving;
mod spiking;
mod stepping;
mod validating;
mod writing;

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use terrace_base::{Fingerprint, Tokens};
use terrace_checkpoint::{RunLayout, RunLock, Saved, Store};
use terrace_config::{GradientClipping, RunConfig};
use terrace_model::CausalLm;
use terrace_policy::batch::{
    BatchController, Decision, DecisionKind, Observation, StageBatch, StageInfo,
};
use terrace_policy::cadence::Cadence;
use terrace_policy::layer_map::LayerMap;
use terrace_policy::learning_rate::LearningRate;
use terrace_policy::spike::{Rewind, SpikePolicy};
use tracing::trace_span;

use self::spiking::{Spike, step_loss};
use self::stepping::losses_per_source;
use self::writing::Writing;
use crate::logs::Logs;
use crate::prefetch::Prefetch;
use crate::{
    Applied, BEFORE, BatchGrowth, Engine, Error, EvaluationRecord, Evaluator, Event, HeldOut,
    HeldOutLosses, HeldOutSets, Loader, Observer, Optimizer, RunState, StepBatch, StepOutcome,
    StepSettings, StopFlag, TrainReport, Trained, judged_step,
};

/// A run in progress.
///
/// # Determinism
///
/// On Flex, with the same binary, CPU features and thread count, the state after any step is a
/// function of the configuration and the data: killed and resumed equals never killed, bit for bit.
pub struct Trainer<'a> {
    pub(crate) config: RunConfig,
    /// Which layers are copies, if the model was made deeper.
    pub(crate) map: Option<LayerMap>,
    pub(crate) stages: Vec<StageSpec>,
    pub(crate) engine: Engine,
    pub(crate) model: CausalLm,
    pub(crate) optimizer: Optimizer,
    pub(crate) loader: Arc<Loader>,
    pub(crate) prefetch: Prefetch,
    pub(crate) held_out: HeldOutSets,
    pub(crate) controller: BatchController,
    pub(crate) state: RunState,
    pub(crate) logs: Logs,
    pub(crate) layout: RunLayout,
    pub(crate) store: Store,
    /// The checkpoint that is being written; before the lock, which has to outlive it.
    pub(crate) writing: Option<Writing>,
    /// Whether training may go on meanwhile.
    pub(crate) saves_behind: bool,
    pub(crate) _lock: RunLock,
    pub(crate) checkpoint_bytes: u64,
    /// What a step's `mfu` is a share of; none where the device's peak is not known.
    pub(crate) peak_flops: Option<f64>,
    pub(crate) stop: StopFlag,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) timing: Timing,
    pub(crate) measured: Option<Measured>,
    pub(crate) saved: Option<(RunState, Saved)>,
    /// Asks the model the tasks of `[evaluation]`; without it there are no evaluations.
    pub(crate) evaluator: Option<&'a mut dyn Evaluator>,
    /// The evaluations so far, in order.
    pub(crate) evaluations: Vec<EvaluationRecord>,
    /// The tokens seen where the run began: those of its parent, if it is a branch.
    pub(crate) began_at: Tokens,
    /// The tokens seen and the digest of the state that the run was resumed from.
    pub(crate) resumed_from: Option<(Tokens, Fingerprint)>,
    /// Whether an evaluation was told to stop before its end.
    pub(crate) interrupted: bool,
}

/// A measurement of the held-out loss, and the windows that it comes from.
pub(crate) struct Measured {
    pub(crate) held_out: HeldOut,
    pub(crate) losses: HeldOutLosses,
}

/// A stage as the loop needs it.
#[derive(Clone, Debug)]
pub(crate) struct StageSpec {
    pub(crate) name: String,
    pub(crate) sequences: u64,
    pub(crate) starts_at: Tokens,
    pub(crate) budget: Tokens,
    pub(crate) learning_rate: LearningRate,
    pub(crate) batch: StageBatch,
    pub(crate) trained: Trained,
    pub(crate) trained_parameters: Option<u64>,
    pub(crate) reference_weights: Vec<f64>,
    /// The place of the stage's first segment in the schedule.
    pub(crate) first_segment: usize,
    /// The reference weights of its further segments.
    pub(crate) later_mixes: Vec<Vec<f64>>,
    /// The tokens seen where each of those begins.
    pub(crate) later_begins: Vec<Tokens>,
}

/// What this process has done, for the speed.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    tokens: u64,
    seconds: f64,
}

impl Trainer<'_> {
    /// Trains all stages, or until it is told to stop.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written, too many steps in a row were not applied, or a loss spike
    /// lasts and the run may not go back once more; what was saved before stays valid.
    pub fn run(mut self) -> Result<TrainReport, Error> {
        if self.state.progress.entered || self.state.progress.stage > 0 {
            // What was due where the run was killed.
            self.evaluate_if_due()?;
        }
        'stages: while let Some(stage) = self.stages.get(self.state.progress.stage).cloned() {
            if self.interrupted {
                break;
            }
            self.enter(&stage)?;
            while self.state.progress.stage_sequences < stage.sequences {
                if self.stop.requested() {
                    return self.halt();
                }
                if let Some(rewind) = self.step(&stage)? {
                    self.rewind(&stage, rewind)?;
                    continue 'stages;
                }
            }
            self.leave(&stage)?;
        }
        if self.interrupted { self.halt() } else { self.report(true) }
    }

    /// Takes the next step; gives where to go back to if a spike asks for it.
    fn step(&mut self, stage: &StageSpec) -> Result<Option<Rewind>, Error> {
        let begin = Instant::now();
        self.notice_saved()?;
        let before = self.state.progress.tokens_seen;
        self.pass_over(stage)?;
        let sequences = self.next_sequences(stage)?;
        if sequences == 0 {
            return Ok(None);
        }
        let cursor = self.state.cursor.clone();
        let _step = trace_span!("step", tokens_seen = before.0, sequences).entered();
        let batch = trace_span!("load").in_scope(|| {
            self.prefetch.take(&mut self.state.cursor, &self.state.journal, sequences)
        });
        self.read_ahead(stage, sequences);
        let tokens = Tokens(sequences * self.config.training.sequence_length as u64);
        let learning_rate = stage.learning_rate.at(self.state.progress.tokens_seen, tokens);
        let settings = StepSettings {
            learning_rate,
            factors: self.controller.factors(),
            gradient_norm_max: self.config.training.gradient_norm_max,
            clipping: self.clipping(),
            release: self.config.training.gradient_release,
            measure_noise: self.config.batch.noise_scale,
        };

        let whole = self.controller.batch_sequences();
        let mut spike = None;
        let outcome = judged_step(
            &self.engine,
            &mut self.model,
            &mut self.optimizer,
            &batch.micro_batches,
            settings,
            &stage.trained,
            |applied| {
                let step = step_loss(&batch, applied, whole);
                let verdict = self.state.spikes.judge(&self.config.spikes, &step);
                spike = Spike::of(verdict, applied);
                spike.as_ref().and_then(Spike::reason_to_withhold)
            },
        );
        self.advance(&batch);
        match outcome {
            StepOutcome::Applied(applied) => {
                self.applied(stage, &batch, &applied, learning_rate, spike.is_some(), begin)?;
                self.note_spike(&batch, spike.as_ref(), true)?;
                // Released gradients are applied before a spike is seen: it can only be gone back for.
                if let Some(rewind) = self.rewind_for(spike.as_ref())? {
                    return Ok(Some(rewind));
                }
            }
            StepOutcome::Lost { reason, rows } => {
                return self.lost(&batch, reason, &rows).map(Some);
            }
            StepOutcome::Refused { reason, rows } => {
                self.state.journal.record(&cursor, &self.state.cursor);
                let rewind = self.refused(stage, &batch, reason, &rows, spike.as_ref())?;
                if rewind.is_some() {
                    return Ok(rewind);
                }
            }
        }
        self.after_step(stage, before)?;
        Ok(None)
    }

    /// Begins to read what the next step takes if nothing comes between.
    fn read_ahead(&mut self, stage: &StageSpec, sequences: u64) {
        let left = stage.sequences - self.state.progress.stage_sequences - sequences;
        let next = self.controller.batch_sequences().min(left);
        self.prefetch.begin(&self.state.cursor, &self.state.journal, next);
    }

    /// What the tokens of a step make due.
    fn after_step(&mut self, stage: &StageSpec, before: Tokens) -> Result<(), Error> {
        let after = self.state.progress.tokens_seen;
        if stage.learning_rate.decays(after) && !stage.learning_rate.decays(before) {
            let decision = self.controller.rebaseline(after, DECAYS.to_owned());
            self.decided(&decision)?;
        }
        let validation = Cadence { every: self.config.validation.every_tokens };
        if validation.due(before, after) {
            self.validate(None)?;
        }
        // A state within a spike is none to go back to.
        if self.save_is_due(before, after) && self.state.spikes.needs_state_before().is_none() {
            self.save_behind(stage)?;
        }
        self.evaluate_if_due()
    }

    fn advance(&mut self, batch: &StepBatch) {
        let sequences = batch.draws.len() as u64;
        let progress = &mut self.state.progress;
        progress.steps += 1;
        progress.stage_sequences += sequences;
        progress.tokens_seen.0 += sequences * self.config.training.sequence_length as u64;
        *self.state.stage_steps.last_mut().expect("a stage was entered") += 1;
    }

    fn applied(
        &mut self,
        stage: &StageSpec,
        batch: &StepBatch,
        applied: &Applied,
        learning_rate: f64,
        spiked: bool,
        begin: Instant,
    ) -> Result<(), Error> {
        let batch_tokens = batch.draws.len() as u64 * self.config.training.sequence_length as u64;
        let began = Tokens(self.state.progress.tokens_seen.0 - batch_tokens);
        self.state.progress.updates += 1;
        self.state.segment_updates.copy_from_slice(self.optimizer.updates());
        self.state.segment_ages = self.optimizer.ages().to_vec();
        let progress = &mut self.state.progress;
        progress.target_tokens_seen += applied.target_tokens;
        progress.consecutive_bad_steps = 0;
        let by_previous = self.config.training.gradient_clipping == GradientClipping::PreviousNorm;
        self.state.gradient_norm = by_previous.then_some(applied.gradient_norm);
        let losses = losses_per_source(batch, applied, self.loader.names().len());
        let observation = Observation {
            step: self.state.progress.updates,
            tokens_seen: self.state.progress.tokens_seen,
            sources: &losses,
            learning_rate,
            noise: applied.noise,
            is_bad: false,
            // A falling rate makes the loss fall, and stop falling, whatever the batch is.
            is_spike: spiked || stage.learning_rate.decays(began),
        };
        if let Some(decision) = self.controller.observe(observation) {
            self.decided(&decision)?;
        }
        let record = self.record(stage, batch, applied, &losses, spiked, begin);
        self.logs.metric(&record)?;
        self.observer.event(&Event::Step(&record));
        Ok(())
    }

    /// Begins a stage, unless the run was resumed within it.
    fn enter(&mut self, stage: &StageSpec) -> Result<(), Error> {
        let index = self.state.progress.stage;
        self.observer.event(&Event::StageStarted {
            index,
            name: &stage.name,
            budget_tokens: stage.budget,
            tokens_seen: self.state.progress.tokens_seen,
        });
        if self.state.progress.entered {
            return Ok(());
        }
        if index == 0 {
            self.validate_base()?;
            self.validate(Some(BEFORE))?;
        }
        let info = stage_info(index, stage, self.config.optimizer.warmup_tokens);
        let decision = self.controller.on_stage_start(info);
        self.state.progress.entered = true;
        self.state.progress.stage_sequences = 0;
        self.state.stage_steps.push(0);
        self.decided(&decision)?;
        if index == 0 && self.config.spikes.policy == SpikePolicy::Rewind {
            // There has to be a state to go back to, however early a spike comes.
            self.save(stage)?;
        }
        if index == 0 {
            self.evaluate_if_due()?;
        }
        Ok(())
    }

    fn leave(&mut self, stage: &StageSpec) -> Result<(), Error> {
        self.validate(Some(&stage.name))?;
        self.state.progress.stage += 1;
        self.state.progress.entered = false;
        self.save(stage)?;
        self.evaluate_if_due()
    }

    pub(crate) fn decided(&mut self, decision: &Decision) -> Result<(), Error> {
        self.logs.decision(decision)?;
        let length = self.config.training.sequence_length as u64;
        let grew = decision.kind == DecisionKind::Grow;
        let is_other_text = matches!(decision.kind, DecisionKind::Stage | DecisionKind::Mix);
        if is_other_text || decision.from_sequences != decision.to_sequences {
            self.state.spikes.rebaseline();
        }
        if grew {
            self.state.growths.push(BatchGrowth::of(decision, length, reason(decision)));
        }
        self.observer.event(&Event::Decision { summary: &reason(decision), grew });
        Ok(())
    }

    /// The current stage; the last one when all are done.
    fn stage_here(&self) -> &StageSpec {
        &self.stages[self.state.progress.stage.min(self.stages.len() - 1)]
    }

    /// Adds a line to `journal.jsonl`.
    pub(crate) fn note(&mut self, event: &str, details: Value) -> Result<(), Error> {
        self.logs.journal(&json!({"event": event, "details": details}))
    }

    /// Saves and stops before the end.
    fn halt(mut self) -> Result<TrainReport, Error> {
        let stage = self.stage_here().clone();
        self.save(&stage)?;
        let tokens_seen = self.state.progress.tokens_seen;
        self.observer.event(&Event::Stopped { tokens_seen });
        self.report(false)
    }
}

/// Why the controller forgets its losses where the rate begins to fall.
pub(crate) const DECAYS: &str =
    "the learning rate falls from here to the end of the stage: no loss is taken for a plateau";

/// What the batch controller is told when a stage begins.
pub(crate) fn stage_info(index: usize, stage: &StageSpec, warmup: Tokens) -> StageInfo {
    StageInfo {
        index,
        start_tokens: stage.starts_at,
        budget_tokens: stage.budget,
        batch: stage.batch,
        settle_tokens: settle_tokens(stage, warmup),
        reference_weights: stage.reference_weights.clone(),
        trained_parameters: stage.trained_parameters,
    }
}

/// The tokens at a stage's beginning that say nothing about a slope: a hundredth of the stage, or
/// what is left of the warm-up.
fn settle_tokens(stage: &StageSpec, warmup: Tokens) -> Tokens {
    Tokens((stage.budget.0 / 100).max(warmup.0.saturating_sub(stage.starts_at.0)))
}

/// A decision in words, with its numbers.
pub(crate) fn reason(decision: &Decision) -> String {
    match &decision.evidence {
        Some(evidence) => format!(
            "{}: slope {:+.2e} ± {:.1e} nats per step over {} steps, threshold -{:.1e}",
            decision.reason,
            evidence.slope_nats_per_step,
            evidence.standard_error,
            evidence.window_steps,
            decision.delta_nats_per_step.unwrap_or(0.0),
        ),
        None => decision.reason.clone(),
    }
}
