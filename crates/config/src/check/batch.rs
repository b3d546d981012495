//! Relations between batch sizes.

use terrace_base::Tokens;

use super::Check;
use crate::batch::{BatchMode, BatchSchedule, StageBatch};
use crate::node::KeyPath;
use crate::run::RunConfig;

impl Check<'_> {
    pub(super) fn batch(&mut self, config: &RunConfig) {
        let batch = &config.batch;
        let section = KeyPath::new("batch");
        if let Some(initial) = batch.initial_tokens {
            self.batch_size(config, &section.child("initial_tokens"), initial);
        }
        match batch.mode {
            BatchMode::Steps => self.schedule(config),
            BatchMode::Fixed | BatchMode::Plateau if batch.initial_tokens.is_none() => {
                self.refuse(&section, "the key `batch.initial_tokens` is missing");
            }
            BatchMode::Fixed => {}
            BatchMode::Plateau => self.plateau(config),
        }
        for (index, stage) in config.stages.iter().enumerate() {
            let path = KeyPath::new("stages").child(index).child("batch");
            if let StageBatch::Tokens(tokens) = stage.batch {
                self.batch_size(config, &path, tokens);
                if batch.mode == BatchMode::Steps {
                    let message = format!(
                        "`{path}` and the schedule of mode \"steps\" both say the batch, \
                         expected \"carry\""
                    );
                    self.refuse(&path, message);
                }
                if batch.mode == BatchMode::Plateau
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

    fn plateau(&mut self, config: &RunConfig) {
        let batch = &config.batch;
        let section = KeyPath::new("batch");
        let initial = batch.initial_tokens.unwrap_or_default();
        match batch.maximum_tokens {
            None => {
                self.refuse(&section, "the key `batch.maximum_tokens` is missing in mode plateau");
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
