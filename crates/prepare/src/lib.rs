//! Documents to an edition: filtered, deduplicated, tokenised, packed and sharded.
//!
//! [`chain`] holds the steps, pure functions on Arrow record batches that know neither files nor
//! threads; the engine runs them in this process, on all cores and in bounded memory. [`run`] is
//! the whole job.

pub mod chain;
mod contamination;
mod engine;
mod error;
mod input;
mod observer;
mod output;
mod run;
mod settings;

pub use error::{Error, Result};
pub use observer::{Phase, Progress, ProgressObserver, Silent};
pub use run::{Options, Report, run};
