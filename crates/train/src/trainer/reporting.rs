//! What a run says when it ends.

use std::collections::BTreeMap;

use terrace_base::Tokens;

use super::Trainer;
use crate::{
    BASE, BEFORE, Error, EvaluationReport, HeldOut, StageReport, TrainReport, UpscaleReport,
    twin_cosines,
};

impl Trainer<'_> {
    pub(super) fn report(mut self, complete: bool) -> Result<TrainReport, Error> {
        self.finish_saving()?;
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
            evaluations: self.evaluations.iter().map(EvaluationReport::from).collect(),
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
