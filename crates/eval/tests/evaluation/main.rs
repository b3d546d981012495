//! Tasks from files to reports, against a model whose every probability is known.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod code;
mod contamination;
mod fetched;
mod runs;
mod shipped;
mod support;
