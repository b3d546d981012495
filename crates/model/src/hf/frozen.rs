//! Loading a model for inference: floats, or integers that stay in the mapped files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use half::bf16;
use safetensors::tensor::TensorView;
use terrace_kernels::Int8Matrix;

use super::Quantization;
use super::load::{MappedFile, check, dtype, map_files, parse, read_architecture, to_f32, widen};
use super::quantization::scale_name;
use crate::frozen::assemble;
use crate::{Error, FrozenLm, Linear, ParameterSpec, Precision};

/// The values that are converted at a time.
const PIECE: usize = 1 << 20;

/// Loads a model for inference in f32; as [`load_frozen_in`].
///
/// # Errors
///
/// As [`load_frozen_in`].
pub fn load_frozen(folder: &Path, device: &Device) -> Result<FrozenLm, Error> {
    load_frozen_in(folder, device, Precision::F32)
}

/// Loads a model for inference from a folder of floats or of eight-bit integers.
///
/// Floats are brought to the precision one tensor at a time in the host's memory, and to the device
/// in that precision. On the processor in f32 integers are not copied: they stay in the mapped files,
/// which must not be truncated meanwhile (that ends the process with SIGBUS); their scales are
/// copied. On other devices integers and scales are brought to the device's memory.
///
/// # Errors
///
/// As [`load`](super::load); or the integers were made by another method.
pub fn load_frozen_in(
    folder: &Path,
    device: &Device,
    precision: Precision,
) -> Result<FrozenLm, Error> {
    let architecture = read_architecture(folder)?;
    let quantization = Quantization::read(folder)?;
    let files: Vec<Arc<MappedFile>> = map_files(folder)?.into_iter().map(Arc::new).collect();
    let parsed = parse(files.iter().map(Arc::as_ref))?;
    let mut tensors = BTreeMap::new();
    let mut homes = BTreeMap::new();
    for (content, file) in parsed.iter().zip(&files) {
        homes.extend(content.iter().map(|(name, _)| (name, file)));
        tensors.extend(content.iter());
    }
    check(folder, &architecture, quantization.as_ref(), &tensors)?;
    let float = |spec: &ParameterSpec| {
        let data = in_precision(&tensors[spec.name.as_str()], spec.matrix_shape(), precision);
        let dtype = data.dtype();
        Tensor::from_data(data, (device, dtype))
    };
    let linear = |spec: &ParameterSpec| {
        if !quantization.is_some_and(|scheme| scheme.covers(spec)) {
            return Ok(Linear::Float(float(spec)));
        }
        let name = spec.name.as_str();
        integers(spec, &tensors[name], &tensors[scale_name(name).as_str()], homes[name])
            .map(|matrix| Linear::int8(matrix, device, precision))
            .map_err(|source| Error::Int8 {
                path: folder.to_owned(),
                name: name.to_owned(),
                source,
            })
    };
    assemble(&architecture, float, |spec| {
        let linear = linear(spec)?;
        // What is on its way to the device is in the host's memory: no more than one product at once.
        device.sync().map_err(|error| Error::Device {
            path: folder.to_owned(),
            name: spec.name.clone(),
            reason: error.to_string(),
        })?;
        Ok(linear)
    })
}

/// A stored tensor in a precision; what is stored in it is taken as it is.
fn in_precision(tensor: &TensorView<'_>, shape: [usize; 2], precision: Precision) -> TensorData {
    match precision {
        Precision::F32 => TensorData::new(to_f32(tensor), shape),
        Precision::Bf16 => TensorData::new(to_bf16(tensor), shape),
    }
}

/// Stored values in bf16, rounded to nearest, ties to even.
fn to_bf16(tensor: &TensorView<'_>) -> Vec<bf16> {
    if dtype(tensor) == Some(terrace_base::Dtype::Bf16) {
        let pairs = tensor.data().chunks_exact(2);
        return pairs.map(|pair| bf16::from_le_bytes([pair[0], pair[1]])).collect();
    }
    // A piece at a time, so that the tensor is not in f32 as a whole.
    let (stored, bytes) = (dtype(tensor).expect("other types were refused before"), tensor.data());
    let pieces = bytes.chunks(PIECE * stored.bytes());
    pieces.flat_map(|piece| widen(piece, stored)).map(bf16::from_f32).collect()
}

fn integers(
    spec: &ParameterSpec,
    values: &TensorView<'_>,
    scales: &TensorView<'_>,
    file: &Arc<MappedFile>,
) -> Result<Int8Matrix, terrace_kernels::Int8Error> {
    // The map behind both is the same, so the difference is the place within it.
    let start = values.data().as_ptr().addr() - file.bytes.as_ptr().addr();
    let range = start..start + values.data().len();
    let scales =
        scales.data().chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Int8Matrix::from_bytes(file.clone(), range, scales, spec.matrix_shape())
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
