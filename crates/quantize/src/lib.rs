//! A folder of eight-bit weights from one of floats, and what that costs in nats.

pub mod certify;
mod error;
mod write;

pub use error::Error;
pub use write::{Quantizing, Written};
