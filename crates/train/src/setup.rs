//! From a configuration to a trainer, anew or from a checkpoint.

mod branch;
mod controlled;
mod history;
mod stages;
mod stopped;
mod weights;

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use terrace_base::{Tokens, fs};
use terrace_checkpoint::{Corruption, LogPositions, RunLayout, RunLock, Store};
use terrace_config::{DeviceChoice, Loaded, MemoryModel, RunConfig, RunPlan};
use terrace_policy::mixture::Journal;
use terrace_policy::spike::SpikeWatch;

pub use self::branch::branch;
pub use self::history::{History, HistoryEntry, Parent};
use self::history::{Occasion, write};
pub use self::stages::mixture_schedule;
use self::stages::open_loader;
pub(crate) use self::stages::{batch_controller, controller_of, stage_specs};
pub use self::stopped::{Mixed, StoppedRun};
use self::weights::{layer_map, load_model};
pub use self::weights::{load_weights, moment_format};
use crate::logs::{Evaluations, Logs};
use crate::memory::kept_layers;
use crate::prefetch::Prefetch;
use crate::restore::{model_fingerprint, read_moments, read_weights};
use crate::trainer::Trainer;
use crate::{
    Engine, EngineSettings, Error, Evaluator, HeldOutSets, Observer, Optimizer, OptimizerSettings,
    Progress, RunState, StopFlag, read_evaluations,
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
