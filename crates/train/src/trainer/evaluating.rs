//! Evaluations: when one is due, and what is written down of it.
//!
//! The state is saved first, so that a kill during a long evaluation loses no step, and is not touched:
//! a run with and without evaluations is the same, bit for bit. Whether one is due follows from where
//! the run is and from the log of evaluations, so that one that a kill cut off is due again.

use std::collections::BTreeMap;

use terrace_base::{Fingerprint, fs};
use terrace_model::CausalLm;
use terrace_policy::cadence::{EvaluationCadence, EvaluationPlace};

use super::Trainer;
use super::validating::measure;
use crate::evaluate::push;
use crate::restore::weights_digest;
use crate::{Asked, Error, EvaluationRecord, Event, Occasion, SourceScore};

impl Trainer<'_> {
    /// Evaluates the model if that is due where the run is.
    pub(super) fn evaluate_if_due(&mut self) -> Result<(), Error> {
        let Some(occasion) = self.due() else { return Ok(()) };
        if occasion == Occasion::Start {
            self.evaluate_base()?;
        }
        if self.interrupted {
            return Ok(());
        }
        let digest = self.saved_digest()?;
        let here = self.state.progress.tokens_seen;
        let known = self.measured.as_ref().filter(|measured| measured.held_out.tokens_seen == here);
        let sources = match known {
            Some(measured) => measured.losses.scores(),
            // Not kept: whether a checkpoint has a held-out loss is for [validation] to say.
            None => measure(&self.held_out, &self.engine, &self.model, self.observer).scores(),
        };
        let model = self.model.clone();
        self.evaluate(&model, digest, occasion, sources)
    }

    /// What the model is to be evaluated for here; none if it is not, or was already.
    fn due(&self) -> Option<Occasion> {
        let config = self.config.evaluation.as_ref().filter(|_| self.evaluator.is_some())?;
        let progress = &self.state.progress;
        let stage = self.stages.get(progress.stage);
        if stage
            .is_some_and(|stage| progress.entered && progress.stage_sequences >= stage.sequences)
        {
            // It is due where this stage is left, which comes next.
            return None;
        }
        let place = EvaluationPlace {
            tokens_seen: progress.tokens_seen,
            began_at: self.began_at,
            ends_stage: progress.stage > 0 && (!progress.entered || progress.stage_sequences == 0),
        };
        let cadence = EvaluationCadence { at_start: config.at_start, every: config.every_tokens };
        let last = self.evaluations.iter().rfind(|record| record.occasion != Occasion::Base);
        let is_due = match last.filter(|last| last.tokens_seen == place.tokens_seen) {
            // Of other tasks it was another evaluation.
            Some(here) => {
                let limit = config.limit.map(|limit| limit as u64);
                here.task_files != config.tasks || here.limit != limit
            }
            None => cadence.due(place, last.map(|last| last.tokens_seen)),
        };
        // Within a spike no state is saved that a run may go back to: it stays due until that is over.
        if !is_due || self.state.spikes.needs_state_before().is_some() {
            return None;
        }
        Some(match place {
            _ if place.tokens_seen == place.began_at => Occasion::Start,
            _ if place.ends_stage => Occasion::StageEnd,
            _ => Occasion::Tokens,
        })
    }

    /// Evaluates the model before it was made deeper, so that both can be told apart.
    fn evaluate_base(&mut self) -> Result<(), Error> {
        if self.evaluations.iter().any(|record| record.occasion == Occasion::Base) {
            return Ok(());
        }
        let Some(base) = self.load_base()? else { return Ok(()) };
        let engine = self.engine.for_model(&base.architecture);
        let sources = measure(&self.held_out, &engine, &base, self.observer).scores();
        self.evaluate(&base, weights_digest(&base), Occasion::Base, sources)
    }

    /// The digest of the state, which is on disk then.
    fn saved_digest(&mut self) -> Result<Fingerprint, Error> {
        self.finish_saving()?;
        let here = self.state.progress.tokens_seen;
        let resumed = self.resumed_from.filter(|(tokens_seen, _)| *tokens_seen == here);
        if let (Some((_, digest)), None) = (resumed, &self.saved) {
            return Ok(digest);
        }
        let stage = self.stage_here().clone();
        self.save_for_evaluation(&stage)?;
        Ok(self.saved.as_ref().expect("it was just saved").1.state_digest)
    }

    fn evaluate(
        &mut self,
        model: &CausalLm,
        digest: Fingerprint,
        occasion: Occasion,
        sources: BTreeMap<String, SourceScore>,
    ) -> Result<(), Error> {
        let Some(config) = self.config.evaluation.clone() else { return Ok(()) };
        let tokens_seen = self.state.progress.tokens_seen;
        let mut record = EvaluationRecord {
            tokens_seen,
            occasion,
            stage: self.stage_of(occasion),
            model: digest,
            items: None,
            asked_as: None,
            limit: config.limit.map(|limit| limit as u64),
            task_files: config.tasks,
            tasks: Vec::new(),
            sources,
        };
        if let (false, Some(evaluator)) = (record.task_files.is_empty(), &mut self.evaluator) {
            let is_base = occasion == Occasion::Base;
            let items = self.layout.evaluation_items((!is_base).then_some(tokens_seen));
            let folder = items.parent().expect("it lies in a folder").to_owned();
            fs::create_dir_all(&folder)
                .map_err(|source| Error::Log { path: folder.clone(), source })?;
            let asked = Asked { model, digest, items: &items, stop: &self.stop };
            let scores = evaluator
                .evaluate(&asked)
                .map_err(|source| Error::Evaluation { tokens_seen: tokens_seen.0, source })?;
            let Some(scores) = scores else {
                self.interrupted = true;
                return Ok(());
            };
            (record.tasks, record.asked_as) = (scores.tasks, Some(scores.asked_as));
            record.items = items.strip_prefix(&self.layout.root).ok().map(Into::into);
        }
        self.logs.evaluation(&record)?;
        self.observer.event(&Event::Evaluated(&record));
        push(&mut self.evaluations, record);
        Ok(())
    }

    fn stage_of(&self, occasion: Occasion) -> String {
        let index = self.state.progress.stage;
        let index = if occasion == Occasion::StageEnd { index.saturating_sub(1) } else { index };
        self.stages[index.min(self.stages.len() - 1)].name.clone()
    }
}
