//! The scores of tasks, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;
use terrace_config::TaskGroup;

use crate::contamination::{CleanAndFlagged, Standings, table};
use crate::published::{COLUMNS, Means, PUBLISHED, PublishedRow};
use crate::record::{Detail, ItemRecord};
use crate::run::Settings;
use crate::score::perplexity::Cost;
use crate::statistics::{mean, pooled_standard_error, standard_error};

/// A score with what it may be off by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// A share between 0 and 1, or what the metric's name says.
    pub value: f64,
    /// Its standard error over the items; none where there is no simple one.
    pub standard_error: Option<f64>,
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: TaskGroup,
    /// The metric that stands for it.
    pub metric: String,
    /// Items that were scored.
    pub items: usize,
    /// Of these so many were cut from the left to fit the context.
    pub cut: usize,
    /// Examples before each item.
    pub shots: usize,
    /// The score by metric.
    pub metrics: BTreeMap<String, Estimate>,
    /// The same for each subset.
    pub subsets: BTreeMap<String, BTreeMap<String, Estimate>>,
    /// The same on clean and on flagged items, if it is known which are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contamination: Option<CleanAndFlagged>,
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the model is called.
    pub model: String,
    /// Only so many items of each task, or subset, were asked.
    pub limit: Option<usize>,
    /// The tasks, in the order in which they were asked.
    pub tasks: Vec<TaskReport>,
    /// Means over the tasks of the published table, in percent.
    pub means: Means,
    /// The published rows, in percent.
    pub published: &'static [PublishedRow],
}

impl Report {
    pub(crate) fn new(
        settings: &Settings,
        records: &[ItemRecord],
        standings: Option<&Standings>,
    ) -> Self {
        let tasks: Vec<TaskReport> = settings
            .tasks
            .iter()
            .map(|task| {
                let records: Vec<&ItemRecord> =
                    records.iter().filter(|record| record.task == task.name).collect();
                let subsets = by_subset(&records);
                TaskReport {
                    name: task.name.clone(),
                    group: task.group,
                    metric: task.metric.clone(),
                    items: records.len(),
                    cut: records.iter().filter(|record| record.is_cut).count(),
                    shots: task.fewshot.shots,
                    metrics: whole(&records, &subsets),
                    contamination: standings.map(|standings| standings.apart(&records)),
                    subsets,
                }
            })
            .collect();
        let score = |name: &str| {
            let task = tasks.iter().find(|task| task.name == name)?;
            task.metrics.get(&task.metric).map(|estimate| 100.0 * estimate.value)
        };
        let means = Means::of(&COLUMNS.map(|(name, _)| score(name)));
        let (model, limit) = (settings.model.clone(), settings.limit);
        Self { model, limit, tasks, means, published: &PUBLISHED }
    }
}

pub(crate) fn by_subset(records: &[&ItemRecord]) -> BTreeMap<String, BTreeMap<String, Estimate>> {
    let mut subsets: BTreeMap<String, Vec<&ItemRecord>> = BTreeMap::new();
    for record in records.iter().filter(|record| !record.subset.is_empty()) {
        subsets.entry(record.subset.clone()).or_default().push(record);
    }
    subsets.into_iter().map(|(name, records)| (name, estimates(&records))).collect()
}

/// Over all items; the error is pooled over the subsets, where there are any.
pub(crate) fn whole(
    records: &[&ItemRecord],
    subsets: &BTreeMap<String, BTreeMap<String, Estimate>>,
) -> BTreeMap<String, Estimate> {
    let mut metrics = estimates(records);
    if subsets.len() < 2 {
        return metrics;
    }
    for (name, estimate) in &mut metrics {
        let part = |(subset, of_subset): (&String, &BTreeMap<String, Estimate>)| {
            let items = records.iter().filter(|record| record.subset == *subset).count();
            // A subset of a single item has no spread that one could see.
            Some((of_subset.get(name)?.standard_error.unwrap_or(0.0), items))
        };
        let parts: Vec<(f64, usize)> = subsets.iter().filter_map(part).collect();
        if estimate.standard_error.is_some() {
            estimate.standard_error = pooled_standard_error(&parts);
        }
    }
    metrics
}

fn estimates(records: &[&ItemRecord]) -> BTreeMap<String, Estimate> {
    if let Some(cost) = cost(records) {
        let alone = |value| Estimate { value, standard_error: None };
        return cost.metrics().into_iter().map(|(name, value)| (name, alone(value))).collect();
    }
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for record in records {
        for (name, value) in &record.metrics {
            values.entry(name.clone()).or_default().push(*value);
        }
    }
    let estimate =
        |values: &[f64]| Estimate { value: mean(values), standard_error: standard_error(values) };
    values.into_iter().map(|(name, values)| (name, estimate(&values))).collect()
}

/// The cost of all texts together, where the items are texts.
fn cost(records: &[&ItemRecord]) -> Option<Cost> {
    let of = |record: &&ItemRecord| match record.detail {
        Detail::Perplexity { nats, bytes, words, .. } => Some(Cost { nats, bytes, words }),
        _ => None,
    };
    let costs: Option<Vec<Cost>> = records.iter().map(of).collect();
    costs
        .filter(|costs| !costs.is_empty())
        .map(|costs| costs.into_iter().fold(Cost::default(), Cost::add))
}

/// A table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["task", "items", "shots", "metric", "score", "±"].map(str::to_owned)];
        for task in &self.tasks {
            // The one that stands for the task comes first.
            let mut metrics: Vec<(&String, &Estimate)> = task.metrics.iter().collect();
            metrics.sort_by_key(|(name, _)| **name != task.metric);
            for (place, (name, estimate)) in metrics.into_iter().enumerate() {
                let first = |text: String| if place == 0 { text } else { String::new() };
                rows.push([
                    first(task.name.clone()),
                    first(task.items.to_string()),
                    first(task.shots.to_string()),
                    name.clone(),
                    shown(name, estimate.value),
                    estimate.standard_error.map_or_else(String::new, |error| shown(name, error)),
                ]);
            }
        }
        f.write_str(&aligned(&rows))?;
        for task in self.tasks.iter().filter(|task| task.cut > 0) {
            writeln!(
                f,
                "{}: {} of {} items were cut to fit the context",
                task.name, task.cut, task.items
            )?;
        }
        f.write_str(&table(&self.tasks))?;
        self.write_published(f)
    }
}

impl Report {
    /// The means, and the published rows below; nothing if there is no mean.
    fn write_published(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Means { code, math, text, all } = self.means;
        if code.or(math).or(text).is_none() {
            return Ok(());
        }
        let names = COLUMNS.iter().map(|(_, name)| *name);
        let head = ["", "Mean-All", "Mean-Code", "Mean-Math", "Mean-Text"].into_iter().chain(names);
        let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).collect()];
        let percent =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        let score = |name: &str| {
            let task = self.tasks.iter().find(|task| task.name == name)?;
            task.metrics.get(&task.metric).map(|estimate| 100.0 * estimate.value)
        };
        let mut ours = vec!["this model".to_owned()];
        ours.extend([all, code, math, text].map(percent));
        ours.extend(COLUMNS.iter().map(|(name, _)| percent(score(name))));
        rows.push(ours);
        for row in self.published {
            let Means { code, math, text, all } = row.means;
            let mut cells = vec![row.model.to_owned()];
            cells.extend([all, code, math, text].map(percent));
            cells.extend(row.scores.iter().map(|score| percent(Some(*score))));
            rows.push(cells);
        }
        f.write_char('\n')?;
        f.write_str(&aligned(&rows))?;
        if let Some(limit) = self.limit {
            writeln!(
                f,
                "the rows below the first are published, on all items; here at most {limit} each"
            )?;
        } else {
            writeln!(f, "the rows below the first are published")?;
        }
        Ok(())
    }
}

/// Shares in percent, anything else as it is.
pub(crate) fn shown(metric: &str, value: f64) -> String {
    if is_share(metric) { format!("{:.2}%", 100.0 * value) } else { format!("{value:.4}") }
}

pub(crate) fn is_share(metric: &str) -> bool {
    !metric.ends_with("perplexity") && metric != "bits_per_byte"
}

/// Columns of equal width, numbers at their right.
pub(crate) fn aligned<R: AsRef<[String]>>(rows: &[R]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or(0)
    };
    let count = rows.first().map_or(0, |row| row.as_ref().len());
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.as_ref().iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let is_number = cell.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
            let (before, after) = if is_number { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.push_str(if column == 0 { "" } else { "  " });
            line.push_str(&format!("{before}{cell}{after}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
