//! Tasks from files to reports, against a model whose every probability is known.

mod code;
mod runs;
mod shipped;
mod support;
