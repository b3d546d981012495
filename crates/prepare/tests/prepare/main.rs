//! The whole job, from files to editions.

mod bad_input;
mod content;
mod determinism;
mod files;
mod outputs;
mod support;
