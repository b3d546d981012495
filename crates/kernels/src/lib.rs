//! The operations whose speed and memory decide the training step.
//!
//! Each has a composed form on Burn's tensor interface, which runs on every backend and is the
//! oracle for the fused forms that may replace it. Shapes are given with the suffixes `b` batch,
//! `t` position, `d` hidden, `n` query heads, `k` key/value heads, `h` head dimension, `f` MLP
//! width, `v` vocabulary.

mod adamw;
mod attention;
mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
pub mod device;
pub mod host;
mod int8;
mod int8_tensor;
mod moments;
mod norm;
mod rope;

pub use adamw::{AdamW, accumulate, adamw_step, square_sums};
pub use attention::{AttentionMask, causal_attention};
pub use cross_entropy::{LinearCrossEntropy, linear_cross_entropy};
pub use int8::{Int8Error, Int8Matrix, int8_blocks, int8_linear, int8_quantize};
pub use int8_tensor::Int8Tensor;
pub use moments::{CODE_BLOCK, CodeTable, Moment, MomentBlocks, MomentFormat, Moments};
pub use norm::{rms_norm, rms_norm_backward};
pub use rope::{RopeTable, rope};

use burn::tensor::activation::silu;
use burn::tensor::{FloatDType, Tensor};

/// Gates the MLP: `silu(gate) * up`, computed in f32.
///
/// # Shapes
///
/// Both `[rows, f]`; gives what they are, of their element type.
///
/// # Source
///
/// SwiGLU (Shazeer 2020, arXiv 2002.05202), as Llama uses it.
#[must_use]
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let dtype = gate.dtype();
    (silu(gate.cast(FloatDType::F32)) * up.cast(FloatDType::F32)).cast(dtype)
}

/// Multiplies rows by a weight matrix stored as Hugging Face stores it: `x · wᵀ`.
///
/// # Shapes
///
/// `x` `[rows, in]`, `weight` `[out, in]`; gives `[rows, out]`.
#[must_use]
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    x.matmul(weight.transpose())
}
