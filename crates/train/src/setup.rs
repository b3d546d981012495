//! From a configuration to a trainer, anew or from a checkpoint.

mod branch;
mod controlled;
mod history;
mod stopped;

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType};
use terrace_base::{Tokens, fs};
use terrace_checkpoint::{Checkpoint, Corruption, LogPositions, RunLayout, RunLock, Store};
use terrace_config::{
    DeviceChoice, Loaded, MemoryModel, Precision, RunConfig, RunPlan, StageBatch as FirstBatch,
};
use terrace_kernels::MomentFormat;
use terrace_model::{CausalLm, hf, initialize};
use terrace_policy::batch::{BatchController, BatchPolicy, StageBatch};
use terrace_policy::layer_map::LayerMap;
use terrace_policy::mixture::{Journal, MixtureSchedule, Segment, SourceEdition};
use terrace_policy::spike::SpikeWatch;

pub use self::branch::branch;
pub use self::history::{History, HistoryEntry, Parent};
use self::history::{Occasion, write};
pub use self::stopped::{Mixed, StoppedRun};
use crate::logs::{Evaluations, Logs};
use crate::memory::kept_layers;
use crate::prefetch::Prefetch;
use crate::restore::{model_fingerprint, read_moments, read_weights};
use crate::trainer::{StageSpec, Trainer};
use crate::{
    Engine, EngineSettings, Error, Evaluator, HeldOutSets, Loader, Observer, Optimizer,
    OptimizerSettings, Progress, RunState, StopFlag, Trained, read_evaluations,
};

/// What a run is started with.
pub struct Job<'a> {
    /// The run file.
    pub loaded: &'a Loaded<RunConfig>,
    /// The plan that it resolves to.
    pub plan: &'a RunPlan,
    /// The device that computes, without autodiff.
    pub device: Device,
    /// The memory that `recompute = "auto"` may plan with, if the run file does not say.
    pub memory_budget: Option<u64>,
    /// The most operations a second that the device takes in dense bf16 products, if that is known:
    /// what a step's `mfu` is a share of.
    pub peak_flops: Option<f64>,
    /// The host's memory that is free, in bytes: whether a state that is being written has room in it
    /// beside the run. Unknown is enough.
    pub host_memory: Option<u64>,
    /// Tells the run to stop.
    pub stop: StopFlag,
    /// Is told what happens.
    pub observer: &'a mut dyn Observer,
    /// Asks the model the tasks of `[evaluation]`; without it there are no evaluations.
    pub evaluator: Option<&'a mut dyn Evaluator>,
}

/// Where a resumed run goes on.
#[derive(Debug)]
pub struct Resumed {
    /// The checkpoint; none if the run was killed before it saved one, and begins again.
    pub checkpoint: Option<PathBuf>,
    /// The tokens seen there.
    pub tokens_seen: Tokens,
    /// Newer checkpoints that are damaged, and how.
    pub skipped: Vec<Corruption>,
}

/// Prepares a new run in the run directory of the configuration.
///
/// # Errors
///
/// The directory holds a run already, or something that the run needs is missing or unfit.
pub fn start(job: Job<'_>) -> Result<Trainer<'_>, Error> {
    start_from(job, None)
}

/// As [`start`], for a run whose configuration names weights that come from `parent`.
///
/// # Errors
///
/// As [`start`].
pub fn start_from(job: Job<'_>, parent: Option<Parent>) -> Result<Trainer<'_>, Error> {
    let layout = RunLayout::new(&job.plan.run_directory);
    if layout.is_run() {
        return Err(Error::RunExists { path: layout.root });
    }
    let of_a_run = parent.as_ref().is_some_and(Parent::is_run);
    let stale = std::iter::once(layout.history()).chain((!of_a_run).then(|| layout.initial()));
    let stale: Vec<PathBuf> = stale.collect();
    refuse_foreign(&layout, &stale)?;
    let lock = RunLock::acquire(&layout)?;
    let store = lock.store()?;
    let listing = store.list()?;
    if !listing.checkpoints.is_empty() || !listing.damaged.is_empty() {
        return Err(Error::RunExists { path: layout.root });
    }
    let plan = serde_json::to_string_pretty(job.plan).expect("plans always serialise");
    // What a start that was killed has left is no history.
    for path in stale {
        fs::remove_dir_all(&path).map_err(|source| Error::Log { path, source })?;
    }
    let mut run_history = History::open(&layout)?;
    let event = if parent.is_some() { "init" } else { "start" };
    run_history.record(Occasion { event, parent, ..Occasion::default() }, &job.loaded.config)?;
    write(layout.plan(), &plan)?;
    write(layout.config(), &job.loaded.config.to_toml()?)?;
    let mut trainer = assemble(job, layout, lock, store, (&LogPositions::new(), None))?;
    run_history.catch_up(&mut trainer.logs)?;
    Ok(trainer)
}

/// Folders of these names are only cleared away where a run was begun before, which leaves a lock.
fn refuse_foreign(layout: &RunLayout, folders: &[PathBuf]) -> Result<(), Error> {
    match folders.iter().find(|path| path.exists() && !layout.lock().exists()) {
        Some(path) => Err(Error::Foreign {
            path: path.clone(),
            reason: "no run has left this; choose another run_directory".to_owned(),
        }),
        None => Ok(()),
    }
}

/// Prepares a run to go on from its newest valid checkpoint.
///
/// # Errors
///
/// No checkpoint is valid, another process trains in the directory, or something that the run
/// needs is missing or was changed since.
pub fn resume(job: Job<'_>) -> Result<(Trainer<'_>, Resumed), Error> {
    let layout = RunLayout::new(&job.plan.run_directory);
    if !layout.is_run() {
        return Err(Error::NotARun { path: layout.root });
    }
    let lock = RunLock::acquire(&layout)?;
    let store = lock.store()?;
    let history = History::open(&layout)?;
    let listing = store.list()?;
    if listing.checkpoints.is_empty() && listing.damaged.is_empty() {
        let mut trainer = assemble(job, layout, lock, store, (&LogPositions::new(), None))?;
        history.catch_up(&mut trainer.logs)?;
        trainer.note("restart", serde_json::json!({"reason": "no checkpoint was saved"}))?;
        let resumed = Resumed { checkpoint: None, tokens_seen: Tokens(0), skipped: Vec::new() };
        return Ok((trainer, resumed));
    }
    let newest = store.newest_valid()?;
    let device = job.device.clone();
    // The logs are cut to where they were when the state was saved.
    let positions = newest.checkpoint.logs()?;
    let at = newest.checkpoint.tokens_seen();
    let mut trainer = assemble(job, layout, lock, store, (&positions, Some(at)))?;
    trainer.resumed_from = Some((at, newest.checkpoint.state_digest()));
    trainer.began_at = history.began_at();
    let state: RunState = newest.checkpoint.state()?;
    let path = newest.checkpoint.path().to_owned();
    if state.model != trainer.state.model {
        let reason = "the checkpoint is of a model of another shape".to_owned();
        return Err(Error::Foreign { path, reason });
    }
    read_weights(&newest.checkpoint, &mut trainer.model, &device)?;
    read_moments(&newest.checkpoint, &trainer.model, &mut trainer.optimizer, &device)?;
    trainer.optimizer.set_counts(state.segment_updates.clone(), state.ages());
    trainer.adopt(state)?;
    history.catch_up(&mut trainer.logs)?;
    trainer.heed_settings()?;
    let skipped: Vec<String> = newest.skipped.iter().map(ToString::to_string).collect();
    let tokens_seen = newest.checkpoint.tokens_seen();
    trainer.note("resume", serde_json::json!({"tokens_seen": tokens_seen, "skipped": skipped}))?;
    Ok((trainer, Resumed { checkpoint: Some(path), tokens_seen, skipped: newest.skipped }))
}

fn assemble<'a>(
    job: Job<'a>,
    layout: RunLayout,
    lock: RunLock,
    store: Store,
    (positions, at): (&LogPositions, Option<Tokens>),
) -> Result<Trainer<'a>, Error> {
    let Job { loaded, plan, device, memory_budget, host_memory, peak_flops, .. } = job;
    let Job { stop, observer, evaluator, .. } = job;
    let config = &loaded.config;
    if let Some(missing) = plan.missing.first() {
        return Err(Error::Missing {
            what: missing.name.clone(),
            path: missing.path.clone(),
            remedy: missing.remedy.clone(),
        });
    }
    let model = load_model(config, &layout, &device)?;
    let map = layer_map(config, &model)?;
    let training = &config.training;
    let memory = MemoryModel::of_run(&model.architecture, config, &plan.stages);
    let budget = training.memory_budget.map(|bytes| bytes.0).or(memory_budget);
    let settings = EngineSettings {
        sequence_length: training.sequence_length,
        kept_layers: kept_layers(training.recompute, &model.architecture, &memory, budget),
        cross_entropy_chunk_tokens: training.cross_entropy_chunk_tokens,
        precision: training.precision,
    };
    let held_on_host = match config.device {
        // A state that is being saved is part of the peak.
        DeviceChoice::Cpu => memory.peak_bytes(settings.kept_layers as u64),
        DeviceChoice::Cuda(_) | DeviceChoice::Wgpu(_) => memory.checkpoint_bytes(),
    };
    let saves_behind =
        config.checkpoint.asynchronous && host_memory.is_none_or(|free| held_on_host <= free);
    tracing::debug!(saves_behind, "checkpoints may be written while the run goes on");
    tracing::debug!(kept_layers = settings.kept_layers, "activations are kept for these layers");
    let loader = Arc::new(open_loader(config, plan)?);
    let held_out = HeldOutSets::open(
        &loader,
        config.validation.sequences_per_source,
        training.micro_batch_sequences,
    )?;
    let controller = batch_controller(config)?;
    let state = RunState {
        seed: config.seed,
        model: model_fingerprint(&model.architecture),
        progress: Progress::default(),
        cursor: loader.schedule().cursor_at_start(),
        journal: Journal::default(),
        controller: controller.state().clone(),
        spikes: SpikeWatch::default(),
        held_out: Vec::new(),
        growths: Vec::new(),
        stage_steps: Vec::new(),
        segment_updates: vec![0; model.layers.len() + 2],
        segment_ages: Vec::new(),
        gradient_norm: None,
    };
    let optimizer = OptimizerSettings {
        beta1: config.optimizer.beta1,
        beta2: config.optimizer.beta2,
        epsilon: config.optimizer.epsilon,
        weight_decay: config.optimizer.weight_decay,
        moments: moment_format(config.optimizer.moments),
        seed: config.seed,
    };
    let wanted = config.evaluation.is_some() && evaluator.is_some();
    let logs = Logs::open(&layout, positions, Evaluations { wanted, at })?;
    Ok(Trainer {
        stages: stage_specs(config, plan, loader.names(), map.as_ref())?,
        engine: Engine::new(&model.architecture, &device, settings),
        optimizer: Optimizer::new(&model, optimizer),
        checkpoint_bytes: memory.checkpoint_bytes(),
        config: config.clone(),
        map,
        model,
        prefetch: Prefetch::new(Arc::clone(&loader)),
        loader,
        held_out,
        controller,
        state,
        logs,
        evaluations: read_evaluations(&layout)?,
        layout,
        store,
        writing: None,
        saves_behind,
        _lock: lock,
        peak_flops,
        stop,
        observer,
        timing: crate::trainer::Timing::default(),
        measured: None,
        saved: None,
        evaluator,
        began_at: Tokens(0),
        resumed_from: None,
        interrupted: false,
    })
}

/// The kernels' name of a run file's number format.
#[must_use]
pub fn moment_format(format: terrace_config::MomentFormat) -> MomentFormat {
    match format {
        terrace_config::MomentFormat::F32 => MomentFormat::F32,
        terrace_config::MomentFormat::Bf16 => MomentFormat::Bf16,
        terrace_config::MomentFormat::EightBit => MomentFormat::Int8,
    }
}

/// Loads the weights of a run's checkpoint, as f32 whatever they are trained in.
///
/// # Errors
///
/// The base model cannot be loaded, or the checkpoint is of a model of another shape.
pub fn load_weights(
    config: &RunConfig,
    layout: &RunLayout,
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<CausalLm, Error> {
    let mut model = load_model(config, layout, device)?;
    read_weights(checkpoint, &mut model, device)?;
    model.cast_matrices(FloatDType::F32);
    Ok(model)
}

/// The model that a run begins with, in the number format that it is trained in.
fn load_model(config: &RunConfig, layout: &RunLayout, device: &Device) -> Result<CausalLm, Error> {
    let mut model = load_exact(config, layout, device)?;
    if config.training.precision == Precision::Bf16 {
        model.cast_matrices(FloatDType::BF16);
    }
    Ok(model)
}

fn load_exact(config: &RunConfig, layout: &RunLayout, device: &Device) -> Result<CausalLm, Error> {
    if config.model.upscale.is_some() {
        return Ok(hf::load(&layout.upscaled(), device)?);
    }
    match (&config.model.path, &config.model.architecture) {
        (Some(folder), _) => Ok(hf::load(folder, device)?),
        (None, Some(architecture)) => Ok(initialize(architecture, config.seed, device)),
        (None, None) => unreachable!("a checked configuration names a model"),
    }
}

/// Which layer of the base each layer of the model is, if it was made deeper.
fn layer_map(config: &RunConfig, model: &CausalLm) -> Result<Option<LayerMap>, Error> {
    let (Some(upscale), Some(path)) = (&config.model.upscale, &config.model.path) else {
        return Ok(None);
    };
    let base = hf::describe(path)?.architecture;
    let map = upscale.map(&base).expect("the plan has checked the layers");
    if map.layers().len() == model.layers.len() {
        return Ok(Some(map));
    }
    let reason =
        format!("it has {} layers, and {} were called for", model.layers.len(), map.layers().len());
    Err(Error::Foreign { path: path.clone(), reason })
}

/// The order of a run's data, from its editions and its stages.
///
/// # Errors
///
/// An edition is missing or unfit, or a stage wants more windows than there are.
pub fn mixture_schedule(config: &RunConfig, plan: &RunPlan) -> Result<MixtureSchedule, Error> {
    let mut sources = Vec::new();
    for (name, source) in &config.sources {
        let edition = terrace_data::Edition::open(&source.edition)?;
        let windows = edition.windows();
        sources.push(SourceEdition {
            name: name.clone(),
            fingerprint: edition.manifest().fingerprint,
            windows,
            max_windows: source.max_epochs.map(|epochs| u64::from(epochs) * windows),
        });
    }
    let length = plan.sequence_length;
    let segments = config
        .stages
        .iter()
        .flat_map(|stage| stage.segments(length).expect("a resolved plan has sound weights"));
    let segments = segments.map(|segment| {
        let weights = &segment.weights;
        let parts = |parts: &[u64]| {
            let part = |name: &String| {
                weights.sources.iter().position(|s| s == name).map_or(0, |place| parts[place])
            };
            config.sources.keys().map(part).collect()
        };
        Segment {
            ramp_sequences: segment.ramp_sequences,
            ..Segment::linear(segment.sequences, parts(&weights.start), parts(&weights.end))
        }
    });
    Ok(MixtureSchedule::new(config.seed, sources, segments.collect())?)
}

fn open_loader(config: &RunConfig, plan: &RunPlan) -> Result<Loader, Error> {
    let schedule = mixture_schedule(config, plan)?;
    let editions: Vec<(String, PathBuf)> = config
        .sources
        .iter()
        .map(|(name, source)| (name.clone(), source.edition.clone()))
        .collect();
    let training = &config.training;
    Loader::open(schedule, &editions, training.sequence_length, training.micro_batch_sequences)
}

pub(crate) fn stage_specs(
    config: &RunConfig,
    plan: &RunPlan,
    names: &[String],
    map: Option<&LayerMap>,
) -> Result<Vec<StageSpec>, Error> {
    let length = config.training.sequence_length as u64;
    let mut next_segment = 0;
    config
        .stages
        .iter()
        .zip(&plan.stages)
        .enumerate()
        .map(|(index, (stage, planned))| {
            let starts_at = Tokens(planned.starts_at_tokens);
            let budget = Tokens(planned.sequences * length);
            let segments = stage.segments(length).expect("a resolved plan has sound weights");
            let first_segment = next_segment;
            next_segment += segments.len();
            let mut mixes = segments
                .iter()
                .map(|segment| names.iter().map(|name| segment.mean_share(name)).collect());
            let reference_weights = mixes.next().expect("a stage has a segment");
            Ok(StageSpec {
                name: stage.name.clone(),
                sequences: planned.sequences,
                starts_at,
                budget,
                learning_rate: config.rate_of(stage, [starts_at, budget])?,
                batch: match stage.batch {
                    FirstBatch::Carry => StageBatch::Carry,
                    FirstBatch::Tokens(tokens) => StageBatch::Sequences(tokens.0 / length),
                },
                trained: trained(config, map, index),
                trained_parameters: trained_parameters(config, plan, index),
                reference_weights,
                first_segment,
                later_mixes: mixes.collect(),
                later_begins: segments[1..]
                    .iter()
                    .map(|segment| Tokens(starts_at.0 + segment.begins_at * length))
                    .collect(),
            })
        })
        .collect()
}

fn trained(config: &RunConfig, map: Option<&LayerMap>, stage: usize) -> Trained {
    match (&config.model.upscale, map) {
        (Some(upscale), Some(map)) if upscale.train.copies_only(stage) => {
            Trained::Layers(map.copies().collect())
        }
        _ => Trained::Whole,
    }
}

fn trained_parameters(config: &RunConfig, plan: &RunPlan, stage: usize) -> Option<u64> {
    let model = plan.model.as_ref()?;
    match (&config.model.upscale, &model.upscale) {
        (Some(upscale), Some(planned)) if upscale.train.copies_only(stage) => {
            Some(planned.new_parameters)
        }
        _ => Some(model.parameters),
    }
}

/// The controller that the run file asks for, at the run's beginning.
pub(crate) fn batch_controller(config: &RunConfig) -> Result<BatchController, Error> {
    controller_of(config, config.batch_policy())
}

/// A controller with another policy than the run file's, and all else as it says.
pub(crate) fn controller_of(
    config: &RunConfig,
    policy: BatchPolicy,
) -> Result<BatchController, Error> {
    let length = config.training.sequence_length as u64;
    let batch = &config.batch;
    let first = batch.first_tokens().0 / length;
    let controller = BatchController::new(policy, length, first)?;
    Ok(controller.with_coupling(batch.coupling).with_half_life(batch.half_life_tokens))
}
