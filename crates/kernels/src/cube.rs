//! Kernels for the devices that CubeCL knows: CUDA, and what WebGPU stands on.

mod int8_rows;
mod kernel;

pub(crate) use int8_rows::{int8_rows, serves};
