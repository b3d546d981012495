//! Two logs of the same tasks, item by item.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use terrace_base::Seed;
use terrace_config::TaskGroup;

use crate::record::ItemRecord;
use crate::report::{aligned, is_share, shown};
use crate::statistics::paired::differences;
use crate::statistics::{
    Bootstrap, Flips, McNemar, bootstrap, flips, mcnemar, mean, minimum_detectable_effect,
};

/// How often items are drawn again.
const RESAMPLES: usize = 2000;

/// One task, before and after, by the metric that stands for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskComparison {
    /// Its name.
    pub task: String,
    /// Its group.
    pub group: TaskGroup,
    /// The metric.
    pub metric: String,
    /// Items that both logs have.
    pub items: usize,
    /// Items that only one of them has, or that were not asked in the same way.
    pub unpaired: usize,
    /// The mean score before; of bits per byte and perplexities the mean over items.
    pub before: f64,
    /// The mean score after.
    pub after: f64,
    /// After less before.
    pub difference: f64,
    /// Items gained and lost, where each is right or wrong.
    pub flips: Option<Flips>,
    /// Whether the flips could be chance.
    pub mcnemar: Option<McNemar>,
    /// Where the difference lies.
    pub bootstrap: Option<Bootstrap>,
    /// A difference that so many items would show in four of five cases.
    pub detectable: Option<f64>,
}

/// The tasks of one group that are scored by shares, each counted alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupComparison {
    /// The group.
    pub group: TaskGroup,
    /// Its tasks.
    pub tasks: usize,
    /// The mean over tasks of their differences.
    pub difference: f64,
    /// Items gained and lost in all of them.
    pub flips: Flips,
    /// Whether the flips could be chance.
    pub mcnemar: McNemar,
    /// Where the difference lies; items are drawn within each task.
    pub bootstrap: Option<Bootstrap>,
}

/// Two logs side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// The tasks that both have, by name.
    pub tasks: Vec<TaskComparison>,
    /// The groups of these, and all of them together as the group `none` where there are several.
    pub groups: Vec<GroupComparison>,
}

/// The scores of a task's items in both logs.
#[derive(Default)]
struct Pairs {
    group: TaskGroup,
    metric: String,
    before: Vec<f64>,
    after: Vec<f64>,
    unpaired: usize,
}

/// Sets two logs side by side, the earlier model first.
///
/// An item is paired with the same item that was asked in the same way: prompt, examples, task file
/// and tokenizer agree. A log may hold several models only one after the other; the last record of an
/// item counts.
///
/// # Determinism
///
/// A function of the records and the seed.
#[must_use]
pub fn compare(before: &[ItemRecord], after: &[ItemRecord], seed: Seed) -> Comparison {
    let pairs = paired(before, after);
    let tasks = pairs.iter().map(|(name, pairs)| task(name, pairs, seed)).collect();
    let shares: Vec<&Pairs> = pairs
        .values()
        .filter(|pairs| is_share(&pairs.metric) && !pairs.before.is_empty())
        .collect();
    let mut groups: Vec<GroupComparison> = [TaskGroup::Code, TaskGroup::Math, TaskGroup::Text]
        .into_iter()
        .filter_map(|name| {
            let of: Vec<&Pairs> =
                shares.iter().copied().filter(|pairs| pairs.group == name).collect();
            group(name, &of, seed)
        })
        .collect();
    if shares.len() > 1 {
        groups.extend(group(TaskGroup::None, &shares, seed));
    }
    Comparison { tasks, groups }
}

fn paired(before: &[ItemRecord], after: &[ItemRecord]) -> BTreeMap<String, Pairs> {
    type Place<'a> = (&'a str, &'a str, usize);
    let place = |record| {
        let record: &ItemRecord = record;
        ((record.task.as_str(), record.subset.as_str(), record.index), record)
    };
    let earlier: BTreeMap<Place<'_>, &ItemRecord> = before.iter().map(place).collect();
    let later: BTreeMap<Place<'_>, &ItemRecord> = after.iter().map(place).collect();
    let mut tasks: BTreeMap<String, Pairs> = BTreeMap::new();
    let of_both = |task: &str| {
        let has = |records: &[ItemRecord]| records.iter().any(|record| record.task == task);
        has(before) && has(after)
    };
    let mut known: BTreeMap<&str, bool> = BTreeMap::new();
    for (place, record) in &earlier {
        if !*known.entry(place.0).or_insert_with(|| of_both(place.0)) {
            continue;
        }
        let pairs = tasks.entry(record.task.clone()).or_default();
        (pairs.group, pairs.metric) = (record.group, record.metric.clone());
        let other = later.get(place).filter(|other| other.item == record.item);
        let scores = other.and_then(|other| {
            Some((*record.metrics.get(&record.metric)?, *other.metrics.get(&record.metric)?))
        });
        match scores {
            Some((before, after)) => {
                pairs.before.push(before);
                pairs.after.push(after);
            }
            None => pairs.unpaired += 1,
        }
    }
    for place in later.keys().filter(|place| !earlier.contains_key(*place)) {
        if let Some(pairs) = tasks.get_mut(place.0) {
            pairs.unpaired += 1;
        }
    }
    tasks
}

fn task(name: &str, pairs: &Pairs, seed: Seed) -> TaskComparison {
    let (differences, difference) = differences(&pairs.before, &pairs.after);
    let flips = flips(&pairs.before, &pairs.after).filter(|_| is_share(&pairs.metric));
    TaskComparison {
        task: name.to_owned(),
        group: pairs.group,
        metric: pairs.metric.clone(),
        items: differences.len(),
        unpaired: pairs.unpaired,
        before: mean(&pairs.before),
        after: mean(&pairs.after),
        difference,
        flips,
        mcnemar: flips.map(mcnemar),
        detectable: minimum_detectable_effect(&differences),
        bootstrap: bootstrap(&[differences], RESAMPLES, seed),
    }
}

fn group(name: TaskGroup, tasks: &[&Pairs], seed: Seed) -> Option<GroupComparison> {
    let all: Vec<(Vec<f64>, f64)> =
        tasks.iter().map(|pairs| differences(&pairs.before, &pairs.after)).collect();
    let means: Vec<f64> = all.iter().map(|(_, mean)| *mean).collect();
    let mut sum = Flips::default();
    for flips in tasks.iter().filter_map(|pairs| flips(&pairs.before, &pairs.after)) {
        sum.gained += flips.gained;
        sum.lost += flips.lost;
    }
    let differences: Vec<Vec<f64>> = all.into_iter().map(|(differences, _)| differences).collect();
    (!tasks.is_empty()).then(|| GroupComparison {
        group: name,
        tasks: tasks.len(),
        difference: mean(&means),
        flips: sum,
        mcnemar: mcnemar(sum),
        bootstrap: bootstrap(&differences, RESAMPLES, seed),
    })
}

/// A table for people.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "task",
            "items",
            "metric",
            "before",
            "after",
            "difference",
            "95% interval",
            "gained",
            "lost",
            "p",
            "detectable",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        for task in &self.tasks {
            let value = |value| shown(&task.metric, value);
            rows.push([
                task.task.clone(),
                task.items.to_string(),
                task.metric.clone(),
                value(task.before),
                value(task.after),
                signed(&task.metric, task.difference),
                interval(&task.metric, task.bootstrap),
                task.flips.map_or_else(String::new, |flips| flips.gained.to_string()),
                task.flips.map_or_else(String::new, |flips| flips.lost.to_string()),
                task.mcnemar.map_or_else(String::new, |test| format!("{:.4}", test.p_value)),
                task.detectable.map_or_else(String::new, value),
            ]);
        }
        for group in &self.groups {
            rows.push([
                match group.group {
                    TaskGroup::Code => "= code",
                    TaskGroup::Math => "= math",
                    TaskGroup::Text => "= text",
                    TaskGroup::None => "= all",
                }
                .to_owned(),
                format!("{} tasks", group.tasks),
                String::new(),
                String::new(),
                String::new(),
                signed("acc", group.difference),
                interval("acc", group.bootstrap),
                group.flips.gained.to_string(),
                group.flips.lost.to_string(),
                format!("{:.4}", group.mcnemar.p_value),
                String::new(),
            ]);
        }
        f.write_str(&aligned(&rows))?;
        for task in self.tasks.iter().filter(|task| task.unpaired > 0) {
            writeln!(
                f,
                "{}: {} items are in one log only, or were not asked in the same way",
                task.task, task.unpaired
            )?;
        }
        Ok(())
    }
}

fn signed(metric: &str, value: f64) -> String {
    let sign = if value >= 0.0 { "+" } else { "" };
    format!("{sign}{}", shown(metric, value))
}

fn interval(metric: &str, bootstrap: Option<Bootstrap>) -> String {
    bootstrap.map_or_else(String::new, |bootstrap| {
        format!("{} to {}", signed(metric, bootstrap.low), signed(metric, bootstrap.high))
    })
}
