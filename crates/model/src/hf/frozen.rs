//! Loading a model for inference: floats, or integers that stay in the mapped files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use terrace_kernels::Int8Matrix;

use super::Quantization;
use super::load::{MappedFile, check, map_files, parse, read_architecture, to_f32};
use super::quantization::scale_name;
use crate::frozen::assemble;
use crate::{Error, FrozenLm, Linear, ParameterSpec};

/// Loads a model for inference from a folder of floats or of eight-bit integers.
///
/// Floats become f32 on the device. Integers are not copied: they stay in the mapped files, which
/// must not be truncated meanwhile (that ends the process with SIGBUS); their scales are copied.
///
/// # Errors
///
/// As [`load`](super::load); or the integers were made by another method.
pub fn load_frozen(folder: &Path, device: &Device) -> Result<FrozenLm, Error> {
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
        let values = to_f32(&tensors[spec.name.as_str()]);
        Tensor::from_data(TensorData::new(values, spec.matrix_shape()), device)
    };
    assemble(&architecture, float, |spec| {
        if !quantization.is_some_and(|scheme| scheme.covers(spec)) {
            return Ok(Linear::Float(float(spec)));
        }
        let name = spec.name.as_str();
        integers(spec, &tensors[name], &tensors[scale_name(name).as_str()], homes[name])
            .map(Linear::Int8)
            .map_err(|source| Error::Int8 {
                path: folder.to_owned(),
                name: name.to_owned(),
                source,
            })
    })
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
