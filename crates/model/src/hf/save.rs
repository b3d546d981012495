//! Writing a folder that `transformers` loads.

use std::path::Path;

use burn::tensor::{FloatDType, Tensor};
use half::{bf16, f16};
use serde_json::json;
use terrace_base::{Dtype, TensorEntry};

use super::FolderWriter;
use crate::{CausalLm, Error, ParameterSpec, segment_specs};

/// How a model is written.
#[derive(Clone, Copy, Debug)]
pub struct SaveOptions {
    /// The element type of the weights, a float; f32 values are rounded to nearest, ties to even.
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
///
/// # Panics
///
/// The element type is no float.
pub fn save(model: &CausalLm, folder: &Path, options: SaveOptions) -> Result<(), Error> {
    let parameters: Vec<(ParameterSpec, Tensor<2>)> = model
        .segments()
        .flat_map(|segment| {
            segment_specs(&model.architecture, segment)
                .into_iter()
                .zip(model.segment_parameters(segment))
        })
        .collect();
    let entry = |spec: &ParameterSpec| TensorEntry {
        name: spec.name.clone(),
        dtype: options.dtype,
        shape: spec.shape.clone(),
    };
    let entries = parameters.iter().map(|(spec, _)| entry(spec)).collect();
    let mut writer = FolderWriter::new(folder, entries, options.maximum_shard_bytes);
    for (_, tensor) in &parameters {
        let path = writer.next_path();
        writer.tensor(|out| {
            // SYNC: the values have to come to the host to be written.
            let values = tensor.clone().cast(FloatDType::F32).into_data();
            let values: Vec<f32> = values.try_to_vec().expect("just made f32");
            out.write_all(&to_bytes(&values, options.dtype)).map_err(Error::io(&path))
        })?;
    }
    let mut config = model.architecture.to_hugging_face();
    let dtype = match options.dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        Dtype::I8 | Dtype::U8 => panic!("integers need scales: `hf::save` writes floats"),
    };
    config["torch_dtype"] = json!(dtype);
    writer.finish(&config).map(|_| ())
}

fn to_bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::I8 | Dtype::U8 => panic!("integers need scales: `hf::save` writes floats"),
    }
}
