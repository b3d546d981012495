//! Relations between values that the types alone cannot express.

mod batch;
mod evaluation;
mod precision;
mod simulate;
mod spikes;
mod task;

use std::collections::BTreeMap;

use terrace_base::Tokens;

use crate::decay::RateDecay;
use crate::error::Diagnostic;
use crate::fault::closest;
use crate::mixture::{Mixture, MixtureWeights};
use crate::mixture_file::MixtureFile;
use crate::node::{Document, KeyPath};
use crate::prepare::{ContaminationConfig, PrepareConfig};
use crate::run::{RunConfig, Stage};

pub(crate) use self::simulate::simulate;
pub(crate) use self::task::task;

/// What keeps the plan's arithmetic within 128 bits.
const EXTENT_LIMIT: usize = 1 << 24;

/// Everything that is wrong with a run file, whatever the world looks like.
pub(crate) fn run(config: &RunConfig, document: &Document) -> Vec<Diagnostic> {
    let mut check = Check { document, problems: Vec::new() };
    check.text("name", &config.name);
    check.model(config);
    check.training(config);
    check.optimizer(config);
    check.precision(config);
    check.spikes(config);
    check.cadence(config);
    check.evaluation(config);
    check.sources(config);
    check.stages(config);
    // A batch in sequences has no meaning without a sequence length.
    if config.training.sequence_length > 0 && config.training.micro_batch_sequences > 0 {
        check.batch(config);
    }
    check.problems
}

/// Everything that is wrong with a file of `terrace prepare`.
pub(crate) fn prepare(config: &PrepareConfig, document: &Document) -> Vec<Diagnostic> {
    let mut check = Check { document, problems: Vec::new() };
    check.text("source", &config.source);
    check.text("text_column", &config.text_column);
    check.at_least_one("sequence_length", config.sequence_length as u64);
    check.at_least_one("partitions", u64::from(config.partitions));
    check.at_least_one("maximum_document_bytes", config.maximum_document_bytes.0);
    check.at_least_one("memory_budget", config.memory_budget.0);
    if config.maximum_characters > 0 && config.maximum_characters < config.minimum_characters {
        let message = format!(
            "`maximum_characters`: found {}, expected at least minimum_characters = {}",
            config.maximum_characters, config.minimum_characters
        );
        check.refuse(&KeyPath::new("maximum_characters"), message);
    }
    if config.inputs.is_empty() {
        check.refuse(&KeyPath::new("inputs"), "`inputs` is empty, expected at least one");
    }
    for (section, inputs) in [("inputs", &config.inputs), ("held_out", &config.held_out)] {
        for (index, input) in inputs.iter().enumerate() {
            if input.paths.is_empty() {
                let path = KeyPath::new(section).child(index).child("paths");
                check.refuse(&path, format!("`{path}` is empty, expected at least one file"));
            }
        }
    }
    if let Some(contamination) = &config.contamination {
        check.contamination(contamination);
    }
    check.problems
}

/// Everything that is wrong with a file of `terrace mix`, for a run with these sources.
pub(crate) fn mixture_file(
    file: &MixtureFile,
    sources: &[&str],
    document: &Document,
) -> Vec<Diagnostic> {
    let mut check = Check { document, problems: Vec::new() };
    let root = KeyPath(Vec::new());
    check.mixture(sources, (&file.mixture, file.mixture_end.as_ref()), &root);
    check.problems
}

struct Check<'a> {
    document: &'a Document,
    problems: Vec<Diagnostic>,
}

impl Check<'_> {
    fn refuse(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.problems.push(self.document.diagnostic(path, message, None));
    }

    fn refuse_with_help(&mut self, path: &KeyPath, message: impl Into<String>, help: String) {
        self.problems.push(self.document.diagnostic(path, message, Some(help)));
    }

    fn contamination(&mut self, config: &ContaminationConfig) {
        let tasks = KeyPath::new("contamination.tasks");
        if config.tasks.is_empty() {
            self.refuse(&tasks, format!("`{tasks}` is empty, expected at least one task file"));
        }
        for (index, path) in config.tasks.iter().enumerate() {
            if path.contains("://") {
                let place = tasks.child(index);
                let message = format!("`{place}`: found an address, expected a local file");
                let help = "fetch the task file and its data first".to_owned();
                self.refuse_with_help(&place, message, help);
            }
        }
        let lengths = ContaminationConfig::NGRAMS;
        let (least, most) = (*lengths.start(), *lengths.end());
        for (key, found) in [("ngram", config.ngram), ("minimum_words", config.minimum_words)] {
            if !lengths.contains(&found) {
                let path = KeyPath::new("contamination").child(key);
                let message = format!("`{path}`: found {found}, expected {least} to {most} words");
                self.refuse(&path, message);
            }
        }
        self.at_least_one("contamination.maximum_items", config.maximum_items as u64);
    }

    fn text(&mut self, key: &str, text: &str) {
        if text.trim().is_empty() {
            self.refuse(&KeyPath::new(key), format!("`{key}` is empty, expected a name"));
        }
    }

    fn at_least_one(&mut self, key: &str, value: u64) {
        if value == 0 {
            self.refuse(&KeyPath::new(key), format!("`{key}`: found 0, expected at least 1"));
        }
    }

    fn number(&mut self, path: &KeyPath, value: f64, expected: &str, holds: bool) {
        if !(value.is_finite() && holds) {
            self.refuse(path, format!("`{path}`: found {value}, expected {expected}"));
        }
    }

    fn above_zero(&mut self, path: &KeyPath, value: f64) {
        self.number(path, value, "a number above zero", value > 0.0);
    }

    fn model(&mut self, config: &RunConfig) {
        let model = &config.model;
        if model.path.is_none() && model.architecture.is_none() {
            self.refuse_with_help(
                &KeyPath::new("model"),
                "`model` names neither a folder nor a shape, expected `path` or `architecture`",
                "write path = \"FOLDER\", or [model.architecture] to start from random weights"
                    .to_owned(),
            );
        }
        if model.upscale.is_some() && model.path.is_none() {
            self.refuse_with_help(
                &KeyPath::new("model.upscale"),
                "`model.upscale` repeats layers of a trained model, but `model.path` is not set",
                "write path = \"FOLDER\" in [model], or leave [model.upscale] out".to_owned(),
            );
        }
        if let Some((field, problem)) = model.architecture.as_ref().and_then(|a| a.problem()) {
            let path = KeyPath::new("model.architecture").child(field);
            self.refuse(&path, format!("`{path}`: {problem}"));
        }
    }

    fn training(&mut self, config: &RunConfig) {
        let training = &config.training;
        for (key, value) in [
            ("training.sequence_length", training.sequence_length),
            ("training.micro_batch_sequences", training.micro_batch_sequences),
            ("training.cross_entropy_chunk_tokens", training.cross_entropy_chunk_tokens),
        ] {
            if !(1..=EXTENT_LIMIT).contains(&value) {
                let message = format!("`{key}`: found {value}, expected 1 to 2^24");
                self.refuse(&KeyPath::new(key), message);
            }
        }
        self.at_least_one(
            "training.max_consecutive_bad_steps",
            u64::from(training.max_consecutive_bad_steps),
        );
        self.above_zero(&KeyPath::new("training.gradient_norm_max"), training.gradient_norm_max);
    }

    fn optimizer(&mut self, config: &RunConfig) {
        let optimizer = &config.optimizer;
        let path = |key: &str| KeyPath::new("optimizer").child(key);
        self.above_zero(&path("learning_rate"), optimizer.learning_rate);
        self.above_zero(&path("epsilon"), optimizer.epsilon);
        for (key, beta) in [("beta1", optimizer.beta1), ("beta2", optimizer.beta2)] {
            let holds = (0.0..1.0).contains(&beta);
            self.number(&path(key), beta, "a number from 0 to below 1", holds);
        }
        let decay = optimizer.weight_decay;
        self.number(&path("weight_decay"), decay, "a number that is zero or more", decay >= 0.0);
        let run = total_budget(config);
        if optimizer.warmup_tokens > run {
            let message = format!(
                "`optimizer.warmup_tokens`: found {}, expected at most the run's {}",
                optimizer.warmup_tokens.0, run.0
            );
            self.refuse(&path("warmup_tokens"), message);
        }
    }

    fn cadence(&mut self, config: &RunConfig) {
        let checkpoint = &config.checkpoint;
        self.at_least_one("checkpoint.keep_last", checkpoint.keep_last as u64);
        if let Some(tokens) = checkpoint.every_tokens {
            self.at_least_one("checkpoint.every_tokens", tokens.0);
        }
        if let Some(steps) = checkpoint.every_steps {
            self.at_least_one("checkpoint.every_steps", steps);
        }
        let sequences = config.validation.sequences_per_source;
        self.at_least_one("validation.sequences_per_source", sequences);
    }

    fn sources(&mut self, config: &RunConfig) {
        for (name, source) in &config.sources {
            let path = KeyPath::new("sources").child(name);
            if name.trim().is_empty() {
                self.refuse(&path, "a source has an empty name");
            }
            if source.max_epochs == Some(0) {
                let path = path.child("max_epochs");
                self.refuse(&path, format!("`{path}`: found 0, expected at least 1"));
            }
        }
    }

    fn stages(&mut self, config: &RunConfig) {
        if config.stages.is_empty() {
            self.refuse(&KeyPath::new("stages"), "`stages` is empty, expected at least one");
        }
        let mut names = BTreeMap::new();
        for (index, stage) in config.stages.iter().enumerate() {
            let path = KeyPath::new("stages").child(index);
            self.text(&path.child("name").to_string(), &stage.name);
            if let Some(first) = names.insert(&stage.name, index) {
                let message =
                    format!("stage {index} has the name {:?} of stage {first}", stage.name);
                self.refuse(&path.child("name"), message);
            }
            let sequence = config.training.sequence_length as u64;
            if stage.budget_tokens.0 < sequence {
                let message = format!(
                    "`{path}.budget_tokens`: found {}, expected at least one sequence of {sequence}",
                    stage.budget_tokens.0
                );
                self.refuse(&path.child("budget_tokens"), message);
            }
            if let Some(rate) = stage.learning_rate {
                self.above_zero(&path.child("learning_rate"), rate);
            }
            if let Some(decay) = &stage.decay {
                self.decay(&path.child("decay"), decay);
            }
            let names: Vec<&str> = config.sources.keys().map(String::as_str).collect();
            self.mixture(&names, (&stage.mixture, stage.mixture_end.as_ref()), &path);
            self.mixture_changes(config, &names, stage, &path);
        }
        let total = config.stages.iter().map(|s| u128::from(s.budget_tokens.0)).sum::<u128>();
        if i64::try_from(total).is_err() {
            self.refuse(&KeyPath::new("stages"), "the stages together have more tokens than 2^63");
        }
    }

    fn decay(&mut self, path: &KeyPath, decay: &RateDecay) {
        let RateDecay { share, final_fraction, .. } = *decay;
        let holds = share > 0.0 && share <= 1.0;
        self.number(&path.child("share"), share, "a share of the stage above 0, at most 1", holds);
        let holds = (0.0..1.0).contains(&final_fraction);
        let expected = "a fraction from 0 to below 1";
        self.number(&path.child("final_fraction"), final_fraction, expected, holds);
    }

    fn mixture(
        &mut self,
        names: &[&str],
        (mixture, end): (&Mixture, Option<&Mixture>),
        path: &KeyPath,
    ) {
        let before = self.problems.len();
        let mut known = |key: &str, mixture: &Mixture| {
            for name in mixture.keys().filter(|name| !names.contains(&name.as_str())) {
                let help = match closest(name, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the sources are {}", names.join(", ")),
                };
                let path = path.child(key).child(name);
                self.refuse_with_help(&path, format!("there is no source `{name}`"), help);
            }
        };
        known("mixture", mixture);
        if let Some(end) = end {
            known("mixture_end", end);
        }
        if self.problems.len() > before {
            return;
        }
        if let Err(error) = MixtureWeights::between(mixture, end) {
            let end_is_zero = mixture.values().any(|weight| !weight.is_zero())
                && error == crate::mixture::WeightsError::AllZero;
            let path = path.child(if end_is_zero { "mixture_end" } else { "mixture" });
            self.refuse(&path, format!("`{path}`: {error}"));
        }
    }

    /// Changes of the mixture come one after the other, within the stage.
    fn mixture_changes(
        &mut self,
        config: &RunConfig,
        names: &[&str],
        stage: &Stage,
        path: &KeyPath,
    ) {
        let length = config.training.sequence_length.max(1) as u64;
        let mut before = 0;
        for (index, change) in stage.mixture_changes.iter().enumerate() {
            let path = path.child("mixture_changes").child(index);
            let sequence = change.after_tokens.0 / length;
            if sequence <= before || sequence >= stage.sequences(length) {
                let message = format!(
                    "`{path}.after_tokens`: found {}, expected more than {} and less than the \
                     stage's {}, in whole sequences of {length}",
                    change.after_tokens.0,
                    before * length,
                    stage.budget_tokens.0
                );
                self.refuse(&path.child("after_tokens"), message);
            }
            before = sequence;
            self.mixture(names, (&change.mixture, change.mixture_end.as_ref()), &path);
        }
    }
}

fn total_budget(config: &RunConfig) -> Tokens {
    let budgets = config.stages.iter().map(|stage| stage.budget_tokens.0);
    Tokens(budgets.fold(0, u64::saturating_add))
}
