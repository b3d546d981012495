//! Scores on clean items apart from flagged ones.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Standing, contents};
use crate::error::Result;
use crate::record::ItemRecord;
use crate::report::{Estimate, TaskReport, aligned, by_subset, shown, whole};
use crate::run::Settings;

/// Scores on a part of a task's items.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartScores {
    /// How many.
    pub items: usize,
    /// The score by metric; empty without items.
    pub metrics: BTreeMap<String, Estimate>,
}

/// What came of a task on items that the sources do not have, and on those that they have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CleanAndFlagged {
    /// On items that were looked for in every source, and of which no document in any has text.
    pub clean: PartScores,
    /// On items of which documents in a source have text.
    pub flagged: PartScores,
    /// Items that count as neither: not looked for in every source, or too short to be.
    pub unknown: usize,
    /// Of the clean items so many are it because documents were left out.
    pub dropped: usize,
}

/// Where the items of all tasks stand, by task, subset and place.
#[derive(Debug)]
pub(crate) struct Standings(HashMap<(String, String, usize), Standing>);

impl Standings {
    /// Nothing if it was not asked for.
    pub(crate) fn of(settings: &Settings) -> Result<Option<Self>> {
        let Some(flagged) = &settings.flagged else { return Ok(None) };
        let mut standings = HashMap::new();
        for task in &settings.tasks {
            for content in contents(task, settings.limit)? {
                let standing = flagged.standing(&task.name, content.hash());
                standings.insert((task.name.clone(), content.subset, content.index), standing);
            }
        }
        Ok(Some(Self(standings)))
    }

    /// The scores of one task.
    pub(crate) fn apart(&self, records: &[&ItemRecord]) -> CleanAndFlagged {
        let (mut clean, mut flagged) = (Vec::new(), Vec::new());
        let (mut unknown, mut dropped) = (0, 0);
        for record in records {
            let place = (record.task.clone(), record.subset.clone(), record.index);
            match self.0.get(&place).copied().unwrap_or(Standing::Unknown) {
                Standing::Clean { dropped: was_dropped } => {
                    dropped += usize::from(was_dropped);
                    clean.push(*record);
                }
                Standing::Flagged => flagged.push(*record),
                Standing::Unknown => unknown += 1,
            }
        }
        let part = |records: Vec<&ItemRecord>| PartScores {
            items: records.len(),
            metrics: whole(&records, &by_subset(&records)),
        };
        CleanAndFlagged { clean: part(clean), flagged: part(flagged), unknown, dropped }
    }
}

/// A table for people, with what there is to know about it below; nothing if it was not asked for.
pub(crate) fn table(tasks: &[TaskReport]) -> String {
    let head = [
        "task",
        "metric",
        "all",
        "±",
        "clean items",
        "clean",
        "±",
        "flagged items",
        "flagged",
        "±",
    ];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for task in tasks {
        let Some(apart) = &task.contamination else { continue };
        let score = |metrics: &BTreeMap<String, Estimate>| {
            let estimate = metrics.get(&task.metric);
            let value = estimate.map_or("-".to_owned(), |found| shown(&task.metric, found.value));
            let error = estimate.and_then(|found| found.standard_error);
            [value, error.map_or_else(String::new, |error| shown(&task.metric, error))]
        };
        let mut row = vec![task.name.clone(), task.metric.clone()];
        row.extend(score(&task.metrics));
        for part in [&apart.clean, &apart.flagged] {
            row.push(part.items.to_string());
            row.extend(score(&part.metrics));
        }
        rows.push(row);
        if apart.unknown > 0 {
            notes.push_str(&format!(
                "{}: {} of {} items are neither clean nor flagged: they are too short, or were not looked \
                 for in every source in this wording\n",
                task.name, apart.unknown, task.items
            ));
        }
        if apart.dropped > 0 {
            notes.push_str(&format!(
                "{}: {} of the clean items had documents in a source, which were left out of it\n",
                task.name, apart.dropped
            ));
        }
    }
    if rows.len() == 1 { String::new() } else { format!("\n{}{notes}", aligned(&rows)) }
}
