//! One tokenizer: load, encode, decode, byte lengths, fingerprint.
//!
//! Everything else in Terrace sees [`Tokenizer`] only, so that the library behind it can change.

mod bytes;
mod error;
mod tokenizer;

pub use error::{Error, Result};
pub use tokenizer::Tokenizer;
