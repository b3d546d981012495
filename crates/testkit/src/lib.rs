//! What tests share: golden fixtures and the comparison that they call for.

mod golden;

pub use golden::{Golden, Tolerance, repository_root};
