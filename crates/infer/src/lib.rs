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
mod scores;
pub mod text;

pub use engine::{Counts, Engine, EngineOptions};
