//! The weights that a run begins with, and those of its checkpoints.

use burn::tensor::{Device, FloatDType};
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_config::{Precision, RunConfig};
use terrace_kernels::MomentFormat;
use terrace_model::{CausalLm, hf, initialize};
use terrace_policy::layer_map::LayerMap;

use crate::Error;
use crate::restore::read_weights;

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
pub(super) fn load_model(
    config: &RunConfig,
    layout: &RunLayout,
    device: &Device,
) -> Result<CausalLm, Error> {
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
pub(super) fn layer_map(config: &RunConfig, model: &CausalLm) -> Result<Option<LayerMap>, Error> {
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
