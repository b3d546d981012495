//! Writing a folder that `transformers` loads.

use std::io::{self, Write};
use std::path::Path;

use burn::tensor::Tensor;
use half::{bf16, f16};
use serde_json::{Map, Value, json};
use terrace_base::{Dtype, TensorEntry, TensorFileWriter, fs};

use super::{CONFIG, INDEX, WEIGHTS};
use crate::{CausalLm, Error, ParameterSpec, segment_specs};

/// How a model is written.
#[derive(Clone, Copy, Debug)]
pub struct SaveOptions {
    /// The element type of the weights; f32 values are rounded to nearest, ties to even.
    pub dtype: Dtype,
    /// The size above which a further file is begun.
    pub maximum_shard_bytes: u64,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { dtype: Dtype::F32, maximum_shard_bytes: 5_000_000_000 }
    }
}

/// Writes `config.json` and the weights into a folder that exists.
///
/// The caller wraps it in [`fs::AtomicDirectory`] where the folder must appear whole.
///
/// # Errors
///
/// A file cannot be written.
pub fn save(model: &CausalLm, folder: &Path, options: SaveOptions) -> Result<(), Error> {
    let parameters: Vec<(ParameterSpec, Tensor<2>)> = model
        .segments()
        .flat_map(|segment| {
            segment_specs(&model.architecture, segment)
                .into_iter()
                .zip(model.segment_parameters(segment))
        })
        .collect();
    let shards = split(&parameters, options);
    let mut weight_map = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = if shards.len() == 1 {
            WEIGHTS.to_owned()
        } else {
            format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len())
        };
        let path = folder.join(&name);
        write_shard(&path, shard, options.dtype).map_err(Error::io(&path))?;
        for (spec, _) in *shard {
            weight_map.insert(spec.name.clone(), Value::String(name.clone()));
        }
    }
    if shards.len() > 1 {
        let total: usize =
            parameters.iter().map(|(spec, _)| spec.elements() * options.dtype.bytes()).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        write_json(&folder.join(INDEX), &index)?;
    }
    let mut config = model.architecture.to_hugging_face();
    let dtype = match options.dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
    };
    config["torch_dtype"] = json!(dtype);
    write_json(&folder.join(CONFIG), &config)
}

fn split(
    parameters: &[(ParameterSpec, Tensor<2>)],
    options: SaveOptions,
) -> Vec<&[(ParameterSpec, Tensor<2>)]> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, (spec, _)) in parameters.iter().enumerate() {
        let size = (spec.elements() * options.dtype.bytes()) as u64;
        if index > start && bytes + size > options.maximum_shard_bytes {
            shards.push(&parameters[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    shards.push(&parameters[start..]);
    shards
}

fn write_shard(path: &Path, shard: &[(ParameterSpec, Tensor<2>)], dtype: Dtype) -> io::Result<()> {
    let entries: Vec<TensorEntry> = shard
        .iter()
        .map(|(spec, _)| TensorEntry { name: spec.name.clone(), dtype, shape: spec.shape.clone() })
        .collect();
    let mut writer = TensorFileWriter::create(path, &entries, &[("format", "pt")])?;
    for (_, tensor) in shard {
        // SYNC: the values have to come to the host to be written.
        let values: Vec<f32> = tensor.clone().into_data().try_to_vec().expect("weights are f32");
        writer.write_all(&to_bytes(&values, dtype))?;
    }
    writer.commit().map(|_| ())
}

fn to_bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).expect("JSON values always serialise");
    text.push('\n');
    fs::write_atomic(path, text.as_bytes()).map_err(Error::io(path))
}
