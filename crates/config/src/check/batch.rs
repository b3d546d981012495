//! Relations between batch sizes.

use terrace_base::Tokens;

use super::Check;
use crate::batch::{AdvisorChoice, BatchMode, BatchSchedule, StageBatch};
use crate::node::KeyPath;
use crate::run::RunConfig;

/// A plan lists every batch of a ramp.
const RAMP_INCREMENTS_LIMIT: u64 = 1000;

impl Check<'_> {
    pub(super) fn batch(&mut self, config: &RunConfig) {
        let batch = &config.batch;
        let section = KeyPath::new("batch");
        if let Some(initial) = batch.initial_tokens {
            self.batch_size(config, &section.child("initial_tokens"), initial);
        }
        match batch.mode {
            BatchMode::Steps => self.schedule(config),
            _ if batch.initial_tokens.is_none() => {
                self.refuse(&section, "the key `batch.initial_tokens` is missing");
            }
            BatchMode::Fixed => {}
            BatchMode::Ramp => self.ramp(config),
            BatchMode::Plateau => self.plateau(config),
            BatchMode::GnsSqrt | BatchMode::LossLaw | BatchMode::Hybrid => {
                self.plateau(config);
                self.advice(config);
            }
        }
        for (index, stage) in config.stages.iter().enumerate() {
            let path = KeyPath::new("stages").child(index).child("batch");
            if let StageBatch::Tokens(tokens) = stage.batch {
                self.batch_size(config, &path, tokens);
                if matches!(batch.mode, BatchMode::Steps | BatchMode::Ramp) {
                    let message = format!(
                        "`{path}` and the schedule of mode \"{}\" both say the batch, \
                         expected \"carry\"",
                        batch.mode.name()
                    );
                    self.refuse(&path, message);
                }
                if batch.mode.measures()
                    && batch.maximum_tokens.is_some_and(|maximum| tokens > maximum)
                {
                    let message = format!("`{path}`: {} is above batch.maximum_tokens", tokens.0);
                    self.refuse(&path, message);
                }
            }
        }
    }

    /// A batch is whole sequences, and at least one micro-batch.
    fn batch_size(&mut self, config: &RunConfig, path: &KeyPath, batch: Tokens) {
        let sequence = config.training.sequence_length as u64;
        let micro = config.training.micro_batch_sequences as u64;
        if batch.0 == 0 || !batch.0.is_multiple_of(sequence) {
            let below = batch.0 / sequence * sequence;
            let message =
                format!("`{path}`: {} tokens are not whole sequences of {sequence}", batch.0);
            let help = match below {
                0 => format!("the smallest batch is {sequence}"),
                _ => format!("the nearest batches are {below} and {}", below + sequence),
            };
            self.refuse_with_help(path, message, help);
        } else if batch.0 / sequence < micro {
            let message = format!(
                "`{path}`: {} sequences are fewer than one micro-batch of {micro}",
                batch.0 / sequence
            );
            let help = "lower training.micro_batch_sequences".to_owned();
            self.refuse_with_help(path, message, help);
        }
    }

    fn maximum(&mut self, config: &RunConfig) {
        let batch = &config.batch;
        let section = KeyPath::new("batch");
        let initial = batch.initial_tokens.unwrap_or_default();
        match batch.maximum_tokens {
            None => {
                let mode = batch.mode.name();
                let message = format!("the key `batch.maximum_tokens` is missing in mode {mode}");
                self.refuse(&section, message);
            }
            Some(maximum) if maximum < initial => {
                let message = format!(
                    "`batch.maximum_tokens`: found {}, expected at least initial_tokens = {}",
                    maximum.0, initial.0
                );
                self.refuse(&section.child("maximum_tokens"), message);
            }
            Some(maximum) => self.batch_size(config, &section.child("maximum_tokens"), maximum),
        }
    }

    fn ramp(&mut self, config: &RunConfig) {
        self.maximum(config);
        let batch = &config.batch;
        let section = KeyPath::new("batch");
        if batch.ramp_tokens.is_none_or(|tokens| tokens.0 == 0) {
            let message = "the key `batch.ramp_tokens` is missing in mode ramp";
            let help = "write over how many tokens the batch grows, as in ramp_tokens = \"4B\"";
            self.refuse_with_help(&section, message, help.to_owned());
        }
        let Some(increment) = batch.ramp_increment_tokens else { return };
        let path = section.child("ramp_increment_tokens");
        let length = config.training.sequence_length as u64;
        if increment.0 == 0 || !increment.0.is_multiple_of(length) {
            let message =
                format!("`{path}`: {} tokens are not whole sequences of {length}", increment.0);
            self.refuse(&path, message);
            return;
        }
        let way = batch.maximum_tokens.unwrap_or_default().0;
        let way = way.saturating_sub(batch.initial_tokens.unwrap_or_default().0);
        if way / increment.0 > RAMP_INCREMENTS_LIMIT {
            let message = format!(
                "`{path}`: {} of {} tokens are more than {RAMP_INCREMENTS_LIMIT} increments",
                way / increment.0,
                increment.0
            );
            self.refuse_with_help(&path, message, "write a larger increment".to_owned());
        }
    }

    /// What noise scale and loss law need.
    fn advice(&mut self, config: &RunConfig) {
        let batch = &config.batch;
        let section = KeyPath::new("batch");
        self.above_zero(
            &section.child("loss_law").child("coefficient_tokens"),
            batch.loss_law.coefficient_tokens,
        );
        self.above_zero(&section.child("loss_law").child("exponent"), batch.loss_law.exponent);
        for (key, tokens) in [
            ("half_life_tokens", batch.half_life_tokens),
            ("step_cost_tokens", batch.step_cost_tokens),
        ] {
            if tokens == Some(Tokens(0)) {
                let path = section.child(key);
                self.refuse(&path, format!("`{path}`: found 0, expected 1 or more"));
            }
        }
        let by_noise = batch.mode == BatchMode::GnsSqrt
            || batch.mode == BatchMode::Hybrid && batch.advisor == AdvisorChoice::NoiseScale;
        if !by_noise {
            return;
        }
        let mode = batch.mode.name();
        if !batch.noise_scale {
            let path = section.child("noise_scale");
            let message = format!("`{path}` is false, but mode {mode} goes by the noise scale");
            self.refuse_with_help(&path, message, "write true, or choose another mode".to_owned());
        }
        let micro =
            (config.training.micro_batch_sequences * config.training.sequence_length) as u64;
        let mut first = vec![(section.child("initial_tokens"), batch.initial_tokens)];
        for (index, stage) in config.stages.iter().enumerate() {
            if let StageBatch::Tokens(tokens) = stage.batch {
                let path = KeyPath::new("stages").child(index).child("batch");
                first.push((path, Some(tokens)));
            }
        }
        for (path, tokens) in first {
            if tokens.is_some_and(|tokens| tokens.0 <= micro) {
                let message = format!(
                    "`{path}`: one micro-batch, but mode {mode} needs two to measure the noise scale"
                );
                let help = "lower training.micro_batch_sequences or begin with a larger batch";
                self.refuse_with_help(&path, message, help.to_owned());
            }
        }
    }

    fn plateau(&mut self, config: &RunConfig) {
        self.maximum(config);
        let batch = &config.batch;
        let section = KeyPath::new("batch");
        if batch.growth_factor < 2 {
            let message =
                format!("`batch.growth_factor`: found {}, expected 2 or more", batch.growth_factor);
            self.refuse(&section.child("growth_factor"), message);
        }
        let test = &batch.plateau;
        let path = |key: &str| section.child("plateau").child(key);
        self.above_zero(&path("nats_per_percent"), test.nats_per_percent);
        self.above_zero(&path("assumed_noise_sd"), test.assumed_noise_sd);
        let alpha = test.alpha;
        let holds = alpha > 0.0 && alpha < 0.5;
        self.number(&path("alpha"), alpha, "a chance above 0 and below 0.5", holds);
        if let Some(rate) = test.safe_learning_rate {
            self.above_zero(&path("safe_learning_rate"), rate);
        }
    }

    fn schedule(&mut self, config: &RunConfig) {
        let path = KeyPath::new("batch.schedule");
        let Some(BatchSchedule(entries)) = &config.batch.schedule else {
            let message = "the key `batch.schedule` is missing in mode steps";
            let help = "write for example schedule = \"0:4Mi 200B:8Mi\"".to_owned();
            self.refuse_with_help(&KeyPath::new("batch"), message, help);
            return;
        };
        if entries.first().is_none_or(|entry| entry.tokens_seen != Tokens(0)) {
            self.refuse(&path, "`batch.schedule`: expected a first entry at 0, as in \"0:4Mi\"");
        }
        if !entries.is_sorted_by(|left, right| left.tokens_seen < right.tokens_seen) {
            self.refuse(&path, "`batch.schedule`: expected entries in ascending order");
        }
        for entry in entries {
            self.batch_size(config, &path, entry.batch);
        }
        let first = entries.first().map(|entry| entry.batch);
        if config.batch.initial_tokens.is_some_and(|initial| Some(initial) != first) {
            let message = "`batch.initial_tokens` differs from the schedule's first batch, \
                           expected one of them only";
            self.refuse(&KeyPath::new("batch.initial_tokens"), message);
        }
    }
}
