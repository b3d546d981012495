//! From answers to scores.

pub(crate) mod answers;
pub(crate) mod choice;
pub(crate) mod code;
pub(crate) mod generation;
pub(crate) mod math;
pub(crate) mod perplexity;
