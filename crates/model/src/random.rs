//! A model for inference of random weights, to measure with.

use burn::tensor::{Device, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;
use terrace_base::Seed;
use terrace_kernels::Int8Matrix;

use crate::frozen::assemble;
use crate::hf::Quantization;
use crate::{Architecture, Error, FrozenLm, Initializer, Linear, ParameterSpec, Precision};

impl FrozenLm {
    /// Draws a model of any shape, a tensor at a time in the host's memory.
    ///
    /// Weights are uniform with the deviation that the architecture initialises with, integers where
    /// `quantization` says so.
    ///
    /// # Errors
    ///
    /// The device did not take a tensor.
    ///
    /// # Determinism
    ///
    /// Element `i` of a parameter is a function of the parameter's name and `i` alone.
    pub fn random(
        architecture: &Architecture,
        quantization: Option<Quantization>,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        let float = |spec: &ParameterSpec| {
            let (values, shape) = (draw(spec), spec.matrix_shape());
            let data = match precision {
                Precision::F32 => TensorData::new(values, shape),
                Precision::Bf16 => {
                    let narrow: Vec<bf16> = values.into_par_iter().map(bf16::from_f32).collect();
                    TensorData::new(narrow, shape)
                }
            };
            let dtype = data.dtype();
            Tensor::from_data(data, (device, dtype))
        };
        assemble(architecture, float, |spec| {
            let linear = if quantization.is_some_and(|scheme| scheme.covers(spec)) {
                let matrix = Int8Matrix::quantize(&draw(spec), spec.matrix_shape());
                Linear::int8(matrix.expect("small numbers have scales"), device, precision)
            } else {
                Linear::Float(float(spec))
            };
            device.sync().map_err(|error| Error::Device {
                path: "random weights".into(),
                name: spec.name.clone(),
                reason: error.to_string(),
            })?;
            Ok(linear)
        })
    }
}

fn draw(spec: &ParameterSpec) -> Vec<f32> {
    let count = spec.elements();
    match spec.initializer {
        Initializer::Ones => vec![1.0; count],
        Initializer::Normal(deviation) => {
            let stream = Seed(0).stream(&spec.name);
            // The root of 12: uniform numbers between -1/2 and 1/2 have the deviation of its inverse.
            let width = (12.0f64.sqrt() * deviation) as f32;
            let unit = |i: u64| (stream.at(i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
            (0..count as u64).into_par_iter().map(|i| unit(i) * width).collect()
        }
    }
}
