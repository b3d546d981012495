//! Which items were gained, and which were lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use terrace_base::Fingerprint;

use crate::record::ItemRecord;

/// An item that one model gets right, and the other wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// The task's name.
    pub task: String,
    /// The subset, or nothing.
    pub subset: String,
    /// The place in the subset, counted from 0.
    pub index: usize,
    /// Whether the later model is the one that is right.
    pub gained: bool,
}

/// The items that both logs have, asked in the same way, and that only one of the models gets right, by
/// the metric that stands for their task; in the order of tasks, subsets and items.
#[must_use]
pub fn flipped(before: &[ItemRecord], after: &[ItemRecord]) -> Vec<Flip> {
    let later: BTreeMap<Fingerprint, &ItemRecord> =
        after.iter().map(|record| (record.item, record)).collect();
    let score = |record: &ItemRecord| record.metrics.get(&record.metric).copied();
    let earlier: BTreeMap<(&str, &str, usize), &ItemRecord> = before
        .iter()
        .map(|record| ((record.task.as_str(), record.subset.as_str(), record.index), record))
        .collect();
    let flip = |record: &ItemRecord| {
        let gained = match (score(record)?, score(later.get(&record.item)?)?) {
            (0.0, 1.0) => true,
            (1.0, 0.0) => false,
            _ => return None,
        };
        let (task, subset) = (record.task.clone(), record.subset.clone());
        Some(Flip { task, subset, index: record.index, gained })
    };
    earlier.into_values().filter_map(flip).collect()
}
