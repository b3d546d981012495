//! Training the branches of a probe, each until it has seen its tokens.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use terrace_base::Tokens;
use terrace_checkpoint::{RunLayout, Store};
use terrace_config::{DeviceChoice, Loaded, RunConfig};
use terrace_policy::probe::{StepLoss, block_means, smoothed};
use terrace_train::{Event, History, Job, Observer, StopFlag, StoppedRun, read_steps};

use super::plan::ProbePlan;
use crate::commands::training::{self, Watch};
use crate::commands::{branch, resume};
use crate::context::Context;
use crate::device;
use crate::error::CliError;

/// How often a branch saves over its course.
const SAVES: u64 = 8;

/// What the branches of a probe have in common.
pub(super) struct Branches<'a> {
    pub(super) run: &'a StoppedRun,
    pub(super) plan: &'a ProbePlan,
    pub(super) choice: DeviceChoice,
    pub(super) device: Device,
    /// Asks the whole probe to stop.
    pub(super) stop: StopFlag,
    pub(super) context: &'a Context,
}

/// A branch that is trained.
pub(super) struct TrainedBranch {
    pub(super) multiple: u64,
    pub(super) nats: f64,
    pub(super) learning_rate: f64,
    pub(super) steps: u64,
    pub(super) run_directory: PathBuf,
}

impl Branches<'_> {
    /// Trains a branch to its end, or goes on with it; none if the probe was asked to stop first.
    pub(super) fn train(&self, multiple: u64) -> Result<Option<TrainedBranch>, CliError> {
        let folder = self.plan.branch(multiple);
        let layout = RunLayout::new(&folder);
        if !layout.is_run() {
            branch::make(self.run, &mut self.configuration(multiple, &folder)?)?;
        }
        if !self.is_done(&layout)? {
            self.context.note(&format!("{multiple}x the batch, in {}", folder.display()));
            self.go_on(&layout)?;
        }
        if !self.is_done(&layout)? {
            return Ok(None);
        }
        self.outcome(multiple, &layout).map(Some)
    }

    /// The run's configuration with a fixed batch, and nothing that a probe does not need.
    fn configuration(&self, multiple: u64, folder: &Path) -> Result<Loaded<RunConfig>, CliError> {
        let (run, plan) = (self.run, self.plan);
        let config = &run.in_force.config;
        let factor = plan.coupling.factor(multiple);
        let quoted = |text: String| serde_json::to_string(&text).expect("text always serialises");
        let batch = (multiple * plan.batch_tokens).to_string();
        let mut set = vec![
            ("name".to_owned(), quoted(format!("{} {multiple}x", config.name))),
            ("device".to_owned(), format!("\"{}\"", self.choice)),
            ("batch.mode".to_owned(), "\"fixed\"".to_owned()),
            ("batch.initial_tokens".to_owned(), batch.clone()),
            ("validation.every_tokens".to_owned(), "0".to_owned()),
            ("checkpoint.every_tokens".to_owned(), plan.tokens.div_ceil(SAVES).to_string()),
            ("checkpoint.keep_last".to_owned(), "1".to_owned()),
            ("checkpoint.keep_every_tokens".to_owned(), "0".to_owned()),
            ("checkpoint.keep_best".to_owned(), "false".to_owned()),
        ];
        let rate = |rate: f64| format!("{:e}", rate * factor);
        set.push(("optimizer.learning_rate".to_owned(), rate(config.optimizer.learning_rate)));
        let current = run.standing.stage;
        if let Some(own) = config.stages[current].learning_rate {
            set.push((format!("stages.{current}.learning_rate"), rate(own)));
        }
        if !run.standing.entered {
            set.push((format!("stages.{current}.batch"), batch));
        }
        let loaded = run.history.in_force_with(&set);
        let mut loaded = loaded.map_err(training::train_error)?;
        loaded.config.run_directory = folder.to_owned();
        loaded.config.evaluation = None;
        Ok(loaded)
    }

    fn is_done(&self, layout: &RunLayout) -> Result<bool, CliError> {
        let listing = Store::open(layout.checkpoints()).list().map_err(CliError::environment)?;
        let newest = listing.checkpoints.last();
        Ok(newest.is_some_and(|newest| newest.tokens_seen().0 >= self.plan.until()))
    }

    fn go_on(&self, layout: &RunLayout) -> Result<(), CliError> {
        let history = History::open(layout).map_err(training::train_error)?;
        let loaded = history.in_force().map_err(training::train_error)?;
        let plan = training::plan(&loaded)?;
        let stop = StopFlag::default();
        let mut watch = Until {
            watch: Watch::new(self.context, &plan, None),
            tokens: Tokens(self.plan.until()),
            asked: self.stop.clone(),
            stop: stop.clone(),
        };
        let job = Job {
            loaded: &loaded,
            plan: &plan,
            device: self.device.clone(),
            memory_budget: training::memory_budget(self.choice, self.context),
            peak_flops: device::peak_flops(self.choice, &self.context.environment),
            stop,
            observer: &mut watch,
            // What a probe measures is the training loss.
            evaluator: None,
        };
        let outcome = resume::go_on(job, self.context)?.run();
        watch.watch.finish();
        outcome.map_err(training::train_error).map(drop)
    }

    fn outcome(&self, multiple: u64, layout: &RunLayout) -> Result<TrainedBranch, CliError> {
        let path = layout.metrics();
        let mut records = read_steps(layout).map_err(training::train_error)?;
        records.retain(|record| record.tokens_seen.0 <= self.plan.until());
        let batch = multiple * self.plan.batch_tokens;
        if records.first().is_some_and(|record| record.batch_tokens.0 != batch) {
            let message = format!("{} was not trained with {batch} tokens", path.display());
            return Err(CliError::gate(message));
        }
        let steps: Vec<StepLoss> = records
            .iter()
            .map(|record| StepLoss {
                tokens: record.batch_tokens.0,
                targets: record.target_tokens,
                nats: record.nats,
            })
            .collect();
        let nats = smoothed(&block_means(&steps, self.plan.block_tokens)).ok_or_else(|| {
            CliError::gate(format!(
                "{multiple}x: no block of steps was applied; see {}",
                path.display()
            ))
        })?;
        Ok(TrainedBranch {
            multiple,
            nats,
            learning_rate: records.last().map_or(0.0, |record| record.learning_rate),
            steps: records.len() as u64,
            run_directory: layout.root.clone(),
        })
    }
}

/// Watches a branch, and stops it where it has seen its tokens or the probe was asked to stop.
struct Until<'a> {
    watch: Watch<'a>,
    tokens: Tokens,
    asked: StopFlag,
    stop: StopFlag,
}

impl Observer for Until<'_> {
    fn event(&mut self, event: &Event<'_>) {
        let seen = match event {
            Event::Step(record) => record.tokens_seen,
            Event::BadStep(bad) => bad.tokens_seen,
            // The end of a branch is nothing that somebody asked for.
            Event::Stopped { .. } if !self.asked.requested() => return,
            _ => Tokens(0),
        };
        self.watch.event(event);
        if seen >= self.tokens || self.asked.requested() {
            self.stop.request();
        }
    }
}
