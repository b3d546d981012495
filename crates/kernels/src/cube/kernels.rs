//! The kernels themselves.

#![allow(
    unsafe_code,
    reason = "the macro writes launches without checks, which their callers answer for"
)]

mod adamw;
mod attention_backward;
mod attention_forward;
mod elements;
mod entropy;
mod norm;
mod reduce;
mod tile;

pub(super) use adamw::{UpdateConstantsLaunch, adamw_codes_kernel, adamw_floats_kernel};
pub(super) use attention_backward::{
    attention_deltas_kernel, attention_keys_kernel, attention_queries_kernel,
};
pub(super) use attention_forward::attention_forward_kernel;
pub(super) use elements::{gate_backward_kernel, gate_kernel, rotate_kernel};
pub(super) use entropy::cross_entropy_kernel;
pub(super) use norm::{
    norm_apply_kernel, norm_backward_kernel, norm_forward_kernel, norm_weight_kernel,
    sum_parts_kernel,
};
pub(super) use tile::{SIDE, Tile};

/// The units of a cube, but for attention's.
pub(super) const UNITS: usize = 256;
