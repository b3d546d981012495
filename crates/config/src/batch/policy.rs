//! The batch section as the policy that it asks for.

use terrace_policy::batch::{
    Advisor, BatchPolicy, Following, Hybrid, Limits, LossLaw, PlateauSettings, SqrtRule,
};

use super::{AdvisorChoice, Batch, BatchMode};
use crate::run::RunConfig;

impl RunConfig {
    /// Who decides about the batch, in sequences.
    ///
    /// # Panics
    ///
    /// The configuration was not checked.
    #[must_use]
    pub fn batch_policy(&self) -> BatchPolicy {
        let batch = &self.batch;
        let length = self.training.sequence_length as u64;
        match batch.mode {
            BatchMode::Fixed => BatchPolicy::Fixed,
            BatchMode::Steps => {
                let entries = batch.schedule.iter().flat_map(|schedule| &schedule.0);
                BatchPolicy::Steps(entries.map(|e| (e.tokens_seen, e.batch.0 / length)).collect())
            }
            BatchMode::Ramp => {
                let micro_batch = self.training.micro_batch_sequences as u64;
                BatchPolicy::Ramp(batch.ramp(length, micro_batch))
            }
            BatchMode::Plateau => BatchPolicy::Plateau(self.plateau_settings()),
            BatchMode::GnsSqrt => self.following(AdvisorChoice::NoiseScale),
            BatchMode::LossLaw => self.following(AdvisorChoice::LossLaw),
            BatchMode::Hybrid => BatchPolicy::Hybrid(Hybrid {
                plateau: self.plateau_settings(),
                advisor: batch.advisor(batch.advisor),
                power: batch.advisor_power,
            }),
        }
    }

    fn plateau_settings(&self) -> PlateauSettings {
        let (batch, plateau) = (&self.batch, &self.batch.plateau);
        let length = self.training.sequence_length as u64;
        PlateauSettings {
            growth_factor: batch.growth_factor,
            maximum_sequences: batch.maximum_tokens.map(|tokens| tokens.0 / length),
            minimum_tokens_between: plateau.minimum_tokens_between,
            minimum_steps_left: Some(plateau.minimum_steps_left),
            cooldown_steps: plateau.cooldown_steps,
            beta2: self.optimizer.beta2,
            stable_learning_rate: plateau.safe_learning_rate,
            ..PlateauSettings::new(plateau.nats_per_percent, plateau.alpha)
        }
    }

    fn following(&self, advisor: AdvisorChoice) -> BatchPolicy {
        let limits: Limits = self.plateau_settings().limits();
        BatchPolicy::Following(Following { advisor: self.batch.advisor(advisor), limits })
    }
}

impl Batch {
    fn advisor(&self, choice: AdvisorChoice) -> Advisor {
        match choice {
            AdvisorChoice::NoiseScale => {
                let cost = self.step_cost_tokens.unwrap_or_else(|| self.first_tokens());
                Advisor::NoiseScale(SqrtRule { step_cost_tokens: cost.0 as f64 })
            }
            AdvisorChoice::LossLaw => Advisor::LossLaw(LossLaw {
                coefficient_tokens: self.loss_law.coefficient_tokens,
                exponent: self.loss_law.exponent,
            }),
        }
    }
}
