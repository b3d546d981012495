//! The whole job, from files to editions.

mod bad_input;
mod contamination;
mod content;
mod determinism;
mod files;
mod outputs;
mod support;
