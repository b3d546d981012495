//! Between a training state in memory and a checkpoint on disk.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use terrace_base::{Dtype, Fingerprint, FingerprintHasher, TensorEntry};
use terrace_checkpoint::{Checkpoint, exp_avg_name, exp_avg_sq_name};
use terrace_config::Architecture;
use terrace_kernels::Moments;
use terrace_model::{CausalLm, ParameterSpec, parameter_specs, segment_specs};

use crate::Error;

/// What a model is shaped like: a checkpoint of another one must not be loaded into it.
pub(crate) fn model_fingerprint(architecture: &Architecture) -> Fingerprint {
    let mut hasher = FingerprintHasher::new();
    for spec in parameter_specs(architecture) {
        hasher.update(spec.name.as_bytes());
        hasher.update(format!("{:?}", spec.shape).as_bytes());
    }
    hasher.finish()
}

/// The digest of a model's weights.
pub(crate) fn weights_digest(model: &CausalLm) -> Fingerprint {
    let mut hasher = FingerprintHasher::new();
    hasher.update(&model_fingerprint(&model.architecture).0);
    for segment in model.segments() {
        for weight in model.segment_parameters(segment) {
            hasher.update(&bytes(weight));
        }
    }
    hasher.finish()
}

/// A parameter or one of its moments as a tensor of a file.
pub(crate) fn entry(spec: &ParameterSpec, name: String) -> TensorEntry {
    TensorEntry { name, dtype: Dtype::F32, shape: spec.shape.clone() }
}

/// The elements in the order of memory, little-endian.
pub(crate) fn bytes(tensor: Tensor<2>) -> Vec<u8> {
    // SYNC: the state has to come to the host to be saved.
    let values: Vec<f32> = tensor.into_data().try_to_vec().expect("the state is f32");
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Reads weights into `model` and gives the moments.
pub(crate) fn read_segments(
    checkpoint: &Checkpoint,
    model: &mut CausalLm,
    device: &Device,
) -> Result<Vec<Vec<Moments>>, Error> {
    let mut all_moments = Vec::new();
    for (position, segment) in model.segments().enumerate() {
        let file = checkpoint.segment(position)?;
        let (mut weights, mut moments) = (Vec::new(), Vec::new());
        for spec in segment_specs(&model.architecture, segment) {
            let read = |name: &str| -> Result<Tensor<2>, Error> {
                let view = file.tensor(name)?;
                check_shape(checkpoint.path(), name, view.shape, &spec)?;
                let data = TensorData::new(view.values.into_owned(), spec.matrix_shape());
                Ok(Tensor::from_data(data, device))
            };
            weights.push(read(&spec.name)?);
            moments.push(Moments {
                first: read(&exp_avg_name(&spec.name))?,
                second: read(&exp_avg_sq_name(&spec.name))?,
            });
        }
        model.set_segment_parameters(segment, weights);
        all_moments.push(moments);
    }
    Ok(all_moments)
}

fn check_shape(
    path: &Path,
    name: &str,
    found: &[usize],
    spec: &ParameterSpec,
) -> Result<(), Error> {
    if found == spec.shape {
        return Ok(());
    }
    let reason = format!("`{name}` has shape {found:?}, expected {:?}", spec.shape);
    Err(Error::Foreign { path: path.to_owned(), reason })
}
