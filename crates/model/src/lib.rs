//! The causal language model of the Llama architecture, and its Hugging Face folders.
//!
//! Weights are plain tensors in Hugging Face's layout, `[out, in]`; a norm's weight is `[1, d]`.
//! There is no module identity to go wrong: a parameter is found by its place, and its name is
//! known to [`ParameterSpec`] alone.

mod causal_lm;
mod context;
mod error;
mod frozen;
pub mod hf;
mod initialize;
mod layer;
mod linear;
mod parameters;
mod precision;
mod random;

pub use causal_lm::{CausalLm, Segment};
pub use context::SequenceContext;
pub use error::Error;
pub use frozen::{FrozenLayer, FrozenLm};
pub use initialize::initialize;
pub use layer::{Layer, LayerTape};
pub use linear::Linear;
pub use parameters::{Initializer, ParameterSpec, parameter_specs, segment_specs};
pub use precision::Precision;
pub use terrace_config::Architecture;
