//! Kernels for the devices that CubeCL knows: CUDA, and what WebGPU stands on.

mod adamw;
mod attention;
mod cross_entropy;
mod gate;
mod int8_rows;
mod kernel;
mod kernels;
mod launch;
mod norm;
mod rope;

pub(crate) use adamw::adamw;
pub(crate) use attention::{attends, attention_backward, attention_forward};
pub(crate) use cross_entropy::cross_entropy;
pub(crate) use gate::{gate, gate_backward};
pub(crate) use int8_rows::{int8_rows, serves};
pub(crate) use launch::runs;
pub(crate) use norm::{norm_apply, norm_backward, norm_forward};
pub(crate) use rope::rotate;
