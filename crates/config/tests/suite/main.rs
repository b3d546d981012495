//! The language of a run from the outside: files in, configurations, plans and errors out.

mod common;
mod composition;
mod documentation;
mod errors;
mod plan;
mod steering;
mod tasks;
