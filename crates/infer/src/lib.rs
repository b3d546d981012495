//! Prefill, decode and batched generation with a key/value cache.
//!
//! [`Engine`] answers requests for a loaded model, many at once and of different lengths; [`text`]
//! turns tokens into text as they come; [`memory`] says what fits.

mod cache;
mod choose;
mod engine;
mod forward;
pub mod memory;
mod prefix;
mod projection;
mod scores;
pub mod text;
mod weights;

pub use engine::{Counts, Engine, EngineOptions};
pub use projection::Projection;
pub use weights::{LayerWeights, Weights};
