//! The held-out loss, measured and written down.

use burn::tensor::FloatDType;
use serde_json::json;
use terrace_config::Precision;
use terrace_model::{CausalLm, hf};

use super::{Measured, Trainer};
use crate::{
    BASE, Engine, Error, Event, HeldOut, HeldOutLosses, HeldOutSets, Observer, twin_cosines,
};

impl Trainer<'_> {
    /// Measures the model before it was made deeper, so that both can be told apart.
    pub(super) fn validate_base(&mut self) -> Result<(), Error> {
        let Some(base) = self.load_base()? else { return Ok(()) };
        let engine = self.engine.for_model(&base.architecture);
        let losses = measure(&self.held_out, &engine, &base, self.observer);
        self.validated(Some(BASE), losses)
    }

    /// The model before it was made deeper, if it was; in the number format of the run, so that a
    /// difference between both is the models'.
    pub(super) fn load_base(&self) -> Result<Option<CausalLm>, Error> {
        let (Some(_), Some(path)) = (&self.map, &self.config.model.path) else { return Ok(None) };
        let mut base = hf::load(path, &self.model.device())?;
        if self.config.training.precision == Precision::Bf16 {
            base.cast_matrices(FloatDType::BF16);
        }
        Ok(Some(base))
    }

    pub(super) fn validate(&mut self, after: Option<&str>) -> Result<(), Error> {
        let losses = measure(&self.held_out, &self.engine, &self.model, self.observer);
        self.validated(after, losses)
    }

    fn validated(&mut self, after: Option<&str>, losses: HeldOutLosses) -> Result<(), Error> {
        let tokens_seen = self.state.progress.tokens_seen;
        let sources = losses.sources();
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
        self.measured = Some(Measured { held_out, losses });
        Ok(())
    }
}

/// Measures the loss of a model, which the observer is told of.
pub(super) fn measure(
    held_out: &HeldOutSets,
    engine: &Engine,
    model: &CausalLm,
    observer: &mut dyn Observer,
) -> HeldOutLosses {
    let _validate = tracing::trace_span!("validate").entered();
    let total = held_out.sequences();
    held_out.measure(engine, model, |done| observer.event(&Event::Validating { done, total }))
}
