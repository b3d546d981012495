//! How many layers may keep their graph.

use terrace_config::{Architecture, MemoryModel, Recompute};

/// Chooses the number of layers that keep their activations.
///
/// `auto` keeps as many as `budget_bytes` allows by the plan's own memory model; without a known
/// budget it recomputes all.
#[must_use]
pub fn kept_layers(
    recompute: Recompute,
    architecture: &Architecture,
    memory: &MemoryModel,
    budget_bytes: Option<u64>,
) -> usize {
    match (recompute, budget_bytes) {
        (Recompute::None, _) => architecture.num_hidden_layers as usize,
        (Recompute::All, _) | (Recompute::Auto, None) => 0,
        (Recompute::Auto, Some(budget)) => memory.kept_layers(budget) as usize,
    }
}
