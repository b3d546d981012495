//! Between a training state in memory and a checkpoint on disk.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use terrace_base::{Dtype, Fingerprint, FingerprintHasher};
use terrace_checkpoint::{Checkpoint, Segment, exp_avg_name, exp_avg_sq_name, scales_name};
use terrace_config::Architecture;
use terrace_kernels::{CODE_BLOCK, CodeTable, Moment, MomentBlocks, MomentFormat, Moments};
use terrace_model::{CausalLm, ParameterSpec, parameter_specs, segment_specs};

use crate::{Error, Optimizer};

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

/// The elements in the order of memory, little-endian, of the tensor's own type.
pub(crate) fn bytes(tensor: Tensor<2>) -> Vec<u8> {
    const { assert!(cfg!(target_endian = "little"), "the host's order is the file's") };
    // SYNC: the state has to come to the host to be saved.
    tensor.into_data().as_bytes().to_vec()
}

/// Reads weights into `model`, in the number formats that it has.
pub(crate) fn read_weights(
    checkpoint: &Checkpoint,
    model: &mut CausalLm,
    device: &Device,
) -> Result<(), Error> {
    for (position, segment) in model.segments().enumerate() {
        let file = checkpoint.segment(position)?;
        let specs = segment_specs(&model.architecture, segment);
        let weights = specs.iter().zip(model.segment_parameters(segment)).map(|(spec, weight)| {
            read_float(checkpoint.path(), &file, &spec.name, spec, (device, weight.dtype()))
        });
        let weights = weights.collect::<Result<Vec<_>, Error>>()?;
        model.set_segment_parameters(segment, weights);
    }
    Ok(())
}

/// Reads the moments of every parameter of `model` into `optimizer`, in the format that it keeps.
///
/// A segment at a time, in the place of what was there: a device never holds two states.
pub(crate) fn read_moments(
    checkpoint: &Checkpoint,
    model: &CausalLm,
    optimizer: &mut Optimizer,
    device: &Device,
) -> Result<(), Error> {
    let format = optimizer.moment_format();
    for (position, segment) in model.segments().enumerate() {
        let file = checkpoint.segment(position)?;
        let read = |spec: &ParameterSpec, name: String, table| {
            let place = (device, format.of_shape(spec.matrix_shape()));
            read_moment(checkpoint.path(), &file, &name, spec, place, table)
        };
        let specs = segment_specs(&model.architecture, segment);
        let moments = specs.iter().map(|spec| -> Result<Moments, Error> {
            Ok(Moments {
                first: read(spec, exp_avg_name(&spec.name), CodeTable::Signed)?,
                second: read(spec, exp_avg_sq_name(&spec.name), CodeTable::Unsigned)?,
            })
        });
        optimizer.set_segment_moments(position, moments.collect::<Result<_, _>>()?);
    }
    Ok(())
}

fn read_moment(
    path: &Path,
    file: &Segment,
    name: &str,
    spec: &ParameterSpec,
    (device, format): (&Device, MomentFormat),
    table: CodeTable,
) -> Result<Moment, Error> {
    let dtype = match format {
        MomentFormat::F32 => DType::F32,
        MomentFormat::Bf16 => DType::BF16,
        MomentFormat::Int8 => {
            let blocks = spec.elements().div_ceil(CODE_BLOCK);
            let (codes, shape) = file.bytes(name, Dtype::U8)?;
            check_shape(path, name, shape, &[blocks, CODE_BLOCK])?;
            let name = scales_name(name);
            let (scales, shape) = file.bytes(&name, Dtype::F32)?;
            check_shape(path, &name, shape, &[blocks])?;
            let (scales, _) = scales.as_chunks();
            let scales = scales.iter().map(|scale| f32::from_le_bytes(*scale)).collect();
            return Ok(Moment::Blocks(MomentBlocks::new(codes, scales, table, device)));
        }
    };
    read_float(path, file, name, spec, (device, dtype)).map(Moment::Float)
}

fn read_float(
    path: &Path,
    file: &Segment,
    name: &str,
    spec: &ParameterSpec,
    (device, dtype): (&Device, DType),
) -> Result<Tensor<2>, Error> {
    let (bytes, shape) = file.bytes(name, stored(dtype))?;
    check_shape(path, name, shape, &spec.shape)?;
    let data = TensorData::from_bytes_vec(bytes.to_vec(), spec.matrix_shape(), dtype);
    Ok(Tensor::from_data(data, (device, dtype)))
}

/// The element type of a file for one of a tensor.
pub(crate) fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::BF16 => Dtype::Bf16,
        other => panic!("a state in {other:?}"),
    }
}

fn check_shape(path: &Path, name: &str, found: &[usize], expected: &[usize]) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let reason = format!("`{name}` has shape {found:?}, expected {expected:?}");
    Err(Error::Foreign { path: path.to_owned(), reason })
}
