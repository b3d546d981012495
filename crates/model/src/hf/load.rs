//! Reading a folder, refusing one whose tensors are not those of its configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use terrace_config::Architecture;

use super::quantization::{Quantization, scale_name, scale_shape};
use super::{CONFIG, INDEX, WEIGHTS};
use crate::{CausalLm, Error, initialize::assemble, parameter_specs};

/// Loads a model in f32 from a folder with f32, f16 or bf16 weights, sharded or not.
///
/// # Errors
///
/// A file is missing or malformed, the architecture is not one that Terrace trains, or a tensor is
/// missing, unexpected, or of another shape than `config.json` calls for; the error names it. So is
/// a folder whose weights are integers, which [`load_frozen`](super::load_frozen) takes.
pub fn load(folder: &Path, device: &Device) -> Result<CausalLm, Error> {
    let architecture = read_architecture(folder)?;
    Quantization::refuse(folder)?;
    let files = map_files(folder)?;
    let parsed = parse(&files)?;
    let mut tensors = BTreeMap::new();
    for file in &parsed {
        tensors.extend(file.iter());
    }
    check(folder, &architecture, None, &tensors)?;
    Ok(assemble(&architecture, |spec| {
        let values = to_f32(&tensors[spec.name.as_str()]);
        Tensor::from_data(TensorData::new(values, spec.matrix_shape()), device)
    }))
}

pub(super) fn read_architecture(folder: &Path) -> Result<Architecture, Error> {
    let config = folder.join(CONFIG);
    let text = std::fs::read_to_string(&config).map_err(Error::io(&config))?;
    Architecture::from_hugging_face(&text)
        .map_err(|error| Error::Config { path: config, reason: error.to_string() })
}

pub(super) struct MappedFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Mmap,
}

pub(super) fn map_files(folder: &Path) -> Result<Vec<MappedFile>, Error> {
    let index = folder.join(INDEX);
    let names = if index.exists() {
        shard_names(&index)?
    } else if folder.join(WEIGHTS).exists() {
        vec![WEIGHTS.to_owned()]
    } else {
        return Err(Error::NoWeights { path: folder.to_owned() });
    };
    names.iter().map(|name| map(folder.join(name))).collect()
}

fn shard_names(index: &Path) -> Result<Vec<String>, Error> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let parsed: Index = serde_json::from_str(&text)
        .map_err(|error| Error::Malformed { path: index.to_owned(), reason: error.to_string() })?;
    let mut names: Vec<String> = parsed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[expect(unsafe_code, reason = "a checkpoint larger than memory can only be read by mapping it")]
fn map(path: PathBuf) -> Result<MappedFile, Error> {
    let file = File::open(&path).map_err(Error::io(&path))?;
    // SAFETY: the mapping is read-only and the bytes are treated as data, not as Rust values with
    // invariants. A file that another process truncates meanwhile would raise SIGBUS; model folders
    // are not changed in place.
    let bytes = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
    Ok(MappedFile { path, bytes })
}

pub(super) fn parse<'a>(
    files: impl IntoIterator<Item = &'a MappedFile>,
) -> Result<Vec<SafeTensors<'a>>, Error> {
    files
        .into_iter()
        .map(|file| {
            SafeTensors::deserialize(&file.bytes).map_err(|error| Error::Malformed {
                path: file.path.clone(),
                reason: error.to_string(),
            })
        })
        .collect()
}

/// A tensor that a folder has to hold.
struct Expected {
    name: String,
    shape: Vec<usize>,
    dtypes: &'static [Dtype],
}

fn expected(architecture: &Architecture, quantization: Option<&Quantization>) -> Vec<Expected> {
    let mut all = Vec::new();
    for spec in parameter_specs(architecture) {
        let is_integer = quantization.is_some_and(|scheme| scheme.covers(&spec));
        if is_integer {
            let (name, shape) = (scale_name(&spec.name), scale_shape(&spec));
            all.push(Expected { name, shape, dtypes: &[Dtype::F16] });
        }
        let dtypes: &[Dtype] =
            if is_integer { &[Dtype::I8] } else { &[Dtype::F32, Dtype::F16, Dtype::BF16] };
        all.push(Expected { name: spec.name, shape: spec.shape, dtypes });
    }
    all
}

pub(super) fn check(
    folder: &Path,
    architecture: &Architecture,
    quantization: Option<&Quantization>,
    tensors: &BTreeMap<&str, TensorView<'_>>,
) -> Result<(), Error> {
    let path = folder.to_owned();
    let wanted = expected(architecture, quantization);
    for Expected { name, shape, dtypes } in &wanted {
        let Some(tensor) = tensors.get(name.as_str()) else {
            return Err(Error::MissingTensor { path, name: name.clone(), expected: shape.clone() });
        };
        if tensor.shape() != shape {
            return Err(Error::Shape {
                path,
                name: name.clone(),
                found: tensor.shape().to_vec(),
                expected: shape.clone(),
            });
        }
        if !dtypes.contains(&tensor.dtype()) {
            let found = format!("{:?}", tensor.dtype());
            let expected = match dtypes {
                [only] => format!("{only:?} is expected"),
                _ => "F32, F16 and BF16 can be loaded".to_owned(),
            };
            return Err(Error::Dtype { path, name: name.clone(), found, expected });
        }
    }
    let known = |name: &str| {
        wanted.iter().any(|tensor| tensor.name == name) || harmless(architecture, name)
    };
    match tensors.keys().find(|name| !known(name)) {
        Some(name) => Err(Error::UnexpectedTensor {
            path,
            name: (*name).to_owned(),
            layers: architecture.num_hidden_layers as usize,
            tied: architecture.tie_word_embeddings,
        }),
        None => Ok(()),
    }
}

/// Tensors that old exports carry although they follow from the configuration.
fn harmless(architecture: &Architecture, name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
        || (architecture.tie_word_embeddings && name == "lm_head.weight")
}

pub(super) fn to_f32(tensor: &TensorView<'_>) -> Vec<f32> {
    let dtype = dtype(tensor).filter(|dtype| *dtype != terrace_base::Dtype::I8);
    widen(tensor.data(), dtype.expect("other types were refused before"))
}

/// The element type, if it is one that Terrace writes.
pub(super) fn dtype(tensor: &TensorView<'_>) -> Option<terrace_base::Dtype> {
    match tensor.dtype() {
        Dtype::F32 => Some(terrace_base::Dtype::F32),
        Dtype::F16 => Some(terrace_base::Dtype::F16),
        Dtype::BF16 => Some(terrace_base::Dtype::Bf16),
        Dtype::I8 => Some(terrace_base::Dtype::I8),
        _ => None,
    }
}

/// Stored values in f32.
///
/// # Panics
///
/// The bytes end within a value.
#[must_use]
pub fn widen(bytes: &[u8], dtype: terrace_base::Dtype) -> Vec<f32> {
    assert!(bytes.len().is_multiple_of(dtype.bytes()), "whole values");
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match dtype {
        terrace_base::Dtype::F32 => {
            let words = bytes.chunks_exact(4);
            words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
        }
        terrace_base::Dtype::F16 => pairs().map(|pair| f16::from_le_bytes(pair).to_f32()).collect(),
        terrace_base::Dtype::Bf16 => {
            pairs().map(|pair| bf16::from_le_bytes(pair).to_f32()).collect()
        }
        terrace_base::Dtype::I8 => bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect(),
        terrace_base::Dtype::U8 => bytes.iter().map(|byte| f32::from(*byte)).collect(),
    }
}
