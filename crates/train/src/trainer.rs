//! The step loop.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use terrace_base::Tokens;
use terrace_checkpoint::{Checkpoint, Facts, RunLayout, RunLock, Saved, Store};
use terrace_config::RunConfig;
use terrace_model::{CausalLm, hf};
use terrace_policy::batch::{
    BatchController, Decision, DecisionKind, Observation, SourceLoss as ObservedLoss, StageBatch,
    StageInfo,
};
use terrace_policy::cadence::{Cadence, CheckpointFacts, Retention, RetentionPolicy, retain};
use terrace_policy::layer_map::LayerMap;
use terrace_policy::learning_rate::LearningRate;

use crate::logs::Logs;
use crate::restore::write_segments;
use crate::{
    Applied, BASE, BEFORE, BadStep, BatchGrowth, Engine, Error, Event, HeldOut, HeldOutSets,
    Loader, Observer, Optimizer, RunState, SourceLoss, StageReport, StepBatch, StepOutcome,
    StepRecord, StopFlag, TrainReport, Trained, UpscaleReport, train_step, twin_cosines,
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
    pub(crate) loader: Loader,
    pub(crate) held_out: HeldOutSets,
    pub(crate) controller: BatchController,
    pub(crate) state: RunState,
    pub(crate) logs: Logs,
    pub(crate) layout: RunLayout,
    pub(crate) store: Store,
    pub(crate) _lock: RunLock,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) stop: StopFlag,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) timing: Timing,
    pub(crate) measured: Option<HeldOut>,
    pub(crate) saved: Option<(RunState, Saved)>,
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
    pub(crate) reference_weights: Vec<f64>,
    /// The place of the stage's first segment in the schedule.
    pub(crate) first_segment: usize,
    /// The reference weights of its further segments.
    pub(crate) later_mixes: Vec<Vec<f64>>,
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
    /// A file cannot be read or written, or too many steps in a row are not finite; what was saved
    /// before stays valid.
    pub fn run(mut self) -> Result<TrainReport, Error> {
        while let Some(stage) = self.stages.get(self.state.progress.stage).cloned() {
            self.enter(&stage)?;
            while self.state.progress.stage_sequences < stage.sequences {
                if self.stop.requested() {
                    return self.halt();
                }
                self.step(&stage)?;
            }
            self.leave(&stage)?;
        }
        self.report(true)
    }

    fn step(&mut self, stage: &StageSpec) -> Result<(), Error> {
        let begin = Instant::now();
        let before = self.state.progress.tokens_seen;
        let left = stage.sequences - self.state.progress.stage_sequences;
        let left = left.min(self.follow_mixture(stage)?);
        let sequences = self.controller.batch_sequences().min(left);
        let cursor = self.state.cursor.clone();
        let batch = self.loader.take(&mut self.state.cursor, &self.state.journal, sequences);
        let tokens = Tokens(sequences * self.config.training.sequence_length as u64);
        let learning_rate = stage.learning_rate.at(before, tokens);

        let outcome = train_step(
            &self.engine,
            &mut self.model,
            &mut self.optimizer,
            &batch.micro_batches,
            learning_rate,
            self.config.training.gradient_norm_max,
            &stage.trained,
        );
        self.advance(&batch);
        match outcome {
            StepOutcome::Applied(applied) => {
                self.applied(stage, &batch, &applied, learning_rate, begin)?;
            }
            StepOutcome::Refused { reason, rows } => {
                let cursor_after = self.state.cursor.clone();
                self.state.journal.record(&cursor, &cursor_after);
                self.refused(stage, &batch, reason, &rows)?;
            }
        }
        let after = self.state.progress.tokens_seen;
        let validation = Cadence { every: self.config.validation.every_tokens };
        if validation.due(before, after) {
            self.validate(None)?;
        }
        if self.save_is_due(before, after) {
            self.save(stage)?;
        }
        Ok(())
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
        begin: Instant,
    ) -> Result<(), Error> {
        let progress = &mut self.state.progress;
        progress.updates += 1;
        self.state.segment_updates.copy_from_slice(self.optimizer.updates());
        let progress = &mut self.state.progress;
        progress.target_tokens_seen += applied.target_tokens;
        progress.consecutive_bad_steps = 0;
        let losses = losses_per_source(batch, applied, self.loader.names().len());
        let observation = Observation {
            step: self.state.progress.updates,
            tokens_seen: self.state.progress.tokens_seen,
            sources: &losses,
            learning_rate,
            is_bad: false,
            is_spike: false,
        };
        if let Some(decision) = self.controller.observe(observation) {
            self.decided(&decision)?;
        }
        let record = self.record(stage, batch, applied, &losses, learning_rate, begin);
        self.logs.metric(&record)?;
        self.observer.event(&Event::Step(&record));
        Ok(())
    }

    fn record(
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

    fn refused(
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
        let decision = self.controller.on_stage_start(StageInfo {
            index,
            start_tokens: stage.starts_at,
            budget_tokens: stage.budget,
            batch: stage.batch,
            settle_tokens: settle_tokens(stage, self.config.optimizer.warmup_tokens),
            reference_weights: stage.reference_weights.clone(),
        });
        self.state.progress.entered = true;
        self.state.progress.stage_sequences = 0;
        self.state.stage_steps.push(0);
        self.decided(&decision)
    }

    fn leave(&mut self, stage: &StageSpec) -> Result<(), Error> {
        self.validate(Some(&stage.name))?;
        self.state.progress.stage += 1;
        self.state.progress.entered = false;
        self.save(stage)
    }

    pub(crate) fn decided(&mut self, decision: &Decision) -> Result<(), Error> {
        self.logs.decision(decision)?;
        let length = self.config.training.sequence_length as u64;
        let grew = decision.kind == DecisionKind::Grow;
        if grew {
            self.state.growths.push(BatchGrowth {
                tokens_seen: decision.tokens_seen,
                from_tokens: Tokens(decision.from_sequences * length),
                to_tokens: Tokens(decision.to_sequences * length),
                reason: reason(decision),
            });
        }
        self.observer.event(&Event::Decision { summary: &reason(decision), grew });
        Ok(())
    }

    /// Measures the model before it was made deeper, so that both can be told apart.
    fn validate_base(&mut self) -> Result<(), Error> {
        let (Some(_), Some(path)) = (&self.map, &self.config.model.path) else { return Ok(()) };
        let base = hf::load(path, &self.model.device())?;
        let engine = self.engine.for_model(&base.architecture);
        let sources = measure(&self.held_out, &engine, &base, self.observer);
        self.validated(Some(BASE), sources)
    }

    fn validate(&mut self, after: Option<&str>) -> Result<(), Error> {
        let sources = measure(&self.held_out, &self.engine, &self.model, self.observer);
        self.validated(after, sources)
    }

    fn validated(
        &mut self,
        after: Option<&str>,
        sources: BTreeMap<String, SourceLoss>,
    ) -> Result<(), Error> {
        let tokens_seen = self.state.progress.tokens_seen;
        let held_out = HeldOut { after: after.map(str::to_owned), tokens_seen, sources };
        let bits = held_out.bits_per_byte();
        let mut details = json!({"tokens_seen": tokens_seen, "bits_per_byte": bits});
        if after == Some(BASE) {
            details["model"] = json!("base");
        } else if let Some(map) = &self.map {
            details["twins"] = json!(twin_cosines(&self.model, map));
        }
        self.note("held_out", details)?;
        self.observer.event(&Event::Validated(&held_out));
        // What is measured within a stage is for people; only the edges of stages are the run's.
        if held_out.after.is_some() {
            self.state.held_out.push(held_out.clone());
        }
        self.measured = Some(held_out);
        Ok(())
    }

    fn save_is_due(&self, before: Tokens, after: Tokens) -> bool {
        let checkpoint = &self.config.checkpoint;
        let by_tokens = Cadence { every: checkpoint.every_tokens.unwrap_or_default() };
        let steps = self.state.progress.steps;
        let by_steps = checkpoint.every_steps.is_some_and(|n| n > 0 && steps.is_multiple_of(n));
        by_steps || by_tokens.due(before, after)
    }

    /// Saves the whole state, unless this very state is saved already.
    fn save(&mut self, stage: &StageSpec) -> Result<(), Error> {
        self.state.controller = self.controller.state().clone();
        if self.saved.as_ref().is_some_and(|(state, _)| *state == self.state) {
            return Ok(());
        }
        let logs = self.logs.positions()?;
        let tokens_seen = self.state.progress.tokens_seen;
        let measured =
            self.measured.as_ref().filter(|held_out| held_out.tokens_seen == tokens_seen);
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
        for (checkpoint, verdict) in saved.iter().zip(retain(&facts, &policy)) {
            if verdict == Retention::Remove {
                self.store.remove(checkpoint.tokens_seen())?;
            }
        }
        Ok(())
    }

    /// Goes on from a saved state.
    pub(crate) fn adopt(&mut self, saved: RunState) -> Result<(), Error> {
        self.state = saved;
        self.state.cursor = self.loader.schedule().resume(&self.state.cursor)?;
        let policy = self.controller.policy().clone();
        let length = self.config.training.sequence_length as u64;
        let controller = self.state.controller.clone();
        self.controller = BatchController::restore(policy, length, controller)?;
        Ok(())
    }

    /// Adds a line to `journal.jsonl`.
    pub(crate) fn note(&mut self, event: &str, details: Value) -> Result<(), Error> {
        self.logs.journal(&json!({"event": event, "details": details}))
    }

    /// Saves and stops in the middle of a stage.
    fn halt(mut self) -> Result<TrainReport, Error> {
        let stage = self.stages[self.state.progress.stage].clone();
        self.save(&stage)?;
        let tokens_seen = self.state.progress.tokens_seen;
        self.observer.event(&Event::Stopped { tokens_seen });
        self.report(false)
    }

    fn report(mut self, complete: bool) -> Result<TrainReport, Error> {
        if self.saved.is_none() {
            // A resumed run that had nothing left to do has saved nothing itself.
            let last = self.stages.last().expect("a plan has stages").clone();
            self.save(&last)?;
        }
        let (_, saved) = self.saved.as_ref().expect("it was saved");
        let report = TrainReport {
            run_directory: self.layout.root.clone(),
            complete,
            tokens_seen: self.state.progress.tokens_seen,
            upscale: self.upscale_report(),
            bits_per_byte_before: self.bits_after(BEFORE),
            stages: self.stage_reports(),
            batch_growths: self.state.growths.clone(),
            tokens_per_second: (self.timing.seconds > 0.0)
                .then(|| self.timing.tokens as f64 / self.timing.seconds),
            state_digest: saved.state_digest,
        };
        let path = self.layout.report();
        let text = serde_json::to_string_pretty(&report).expect("reports always serialise");
        terrace_base::fs::write_atomic(&path, text.as_bytes())
            .map_err(|source| Error::Log { path, source })?;
        Ok(report)
    }

    fn upscale_report(&self) -> Option<UpscaleReport> {
        let (map, upscale) = (self.map.as_ref()?, self.config.model.upscale.as_ref()?);
        Some(UpscaleReport {
            selection: upscale.layers.to_string(),
            source_layers: map.source_layers(),
            layers: map.layers().len(),
            bits_per_byte_base: self.bits_after(BASE),
            twins: twin_cosines(&self.model, map),
        })
    }

    fn stage_reports(&self) -> Vec<StageReport> {
        let progress = &self.state.progress;
        let current =
            Tokens(progress.stage_sequences * self.config.training.sequence_length as u64);
        let stages = self.stages.iter().zip(&self.state.stage_steps).enumerate();
        stages
            .map(|(index, (stage, steps))| StageReport {
                name: stage.name.clone(),
                tokens: if index < progress.stage { stage.budget } else { current },
                steps: *steps,
                bits_per_byte: self.bits_after(&stage.name),
            })
            .collect()
    }

    fn bits_after(&self, name: &str) -> BTreeMap<String, f64> {
        let found = self.state.held_out.iter().find(|h| h.after.as_deref() == Some(name));
        found.map(HeldOut::bits_per_byte).unwrap_or_default()
    }
}

fn measure(
    held_out: &HeldOutSets,
    engine: &Engine,
    model: &CausalLm,
    observer: &mut dyn Observer,
) -> BTreeMap<String, SourceLoss> {
    let total = held_out.sequences();
    held_out.measure(engine, model, |done| observer.event(&Event::Validating { done, total }))
}

fn losses_per_source(batch: &StepBatch, applied: &Applied, sources: usize) -> Vec<ObservedLoss> {
    let mut losses = vec![ObservedLoss { nats: 0.0, targets: 0 }; sources];
    let rows = batch.micro_batches.iter().flat_map(|m| m.sources.iter().zip(&m.target_tokens));
    for ((source, targets), nats) in rows.zip(&applied.nats_per_row) {
        losses[*source].nats += f64::from(*nats);
        losses[*source].targets += u64::from(*targets);
    }
    losses
}

/// The tokens at a stage's beginning that say nothing about a slope: a hundredth of the stage, or
/// what is left of the warm-up.
fn settle_tokens(stage: &StageSpec, warmup: Tokens) -> Tokens {
    Tokens((stage.budget.0 / 100).max(warmup.0.saturating_sub(stage.starts_at.0)))
}

fn reason(decision: &Decision) -> String {
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
