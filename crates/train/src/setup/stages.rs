//! What a run file says of stages, data and batch, as the trainer takes it.

use std::path::PathBuf;

use terrace_base::Tokens;
use terrace_config::{RunConfig, RunPlan, StageBatch as FirstBatch};
use terrace_policy::batch::{BatchController, BatchPolicy, StageBatch};
use terrace_policy::layer_map::LayerMap;
use terrace_policy::mixture::{MixtureSchedule, Segment, SourceEdition};

use crate::trainer::StageSpec;
use crate::{Error, Loader, Trained};

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

pub(super) fn open_loader(config: &RunConfig, plan: &RunPlan) -> Result<Loader, Error> {
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
