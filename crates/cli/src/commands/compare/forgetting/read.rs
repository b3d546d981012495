//! The evaluations of a run, with the items that they scored.

use std::collections::BTreeMap;
use std::path::Path;

use terrace_checkpoint::RunLayout;
use terrace_eval::statistics::{Flips, ratio};
use terrace_eval::{Change, ItemRecord, changes, read_log};
use terrace_train::{
    EvaluationRecord, History, SourceScore, StepRecord, read_evaluations, read_steps,
};

use super::{Key, Kind};
use crate::commands::training::train_error;
use crate::error::CliError;

/// An evaluation with its scored items.
pub(super) struct Evaluated {
    pub(super) record: EvaluationRecord,
    /// Empty where their log is gone.
    pub(super) items: Vec<ItemRecord>,
}

/// The name of a run, its evaluations in order, and its steps.
pub(super) fn run(path: &Path) -> Result<(String, Vec<Evaluated>, Vec<StepRecord>), CliError> {
    if path.is_file() {
        let message = format!("{} is one log alone", path.display());
        return Err(CliError::input(message).with_help("name a second one to set against it"));
    }
    let layout = RunLayout::new(path);
    if !layout.is_run() {
        let error = terrace_train::Error::NotARun { path: path.to_owned() };
        return Err(train_error(error));
    }
    let history = History::open(&layout).map_err(train_error)?;
    let name = history.in_force().map_err(train_error)?.config.name;
    let records = read_evaluations(&layout).map_err(train_error)?;
    if records.is_empty() {
        let message = format!("{} has no evaluations", path.display());
        return Err(CliError::input(message).with_help(
            "an [evaluation] in the run file evaluates the model as it is trained; two or more runs \
             are put side by side",
        ));
    }
    let evaluated = records.into_iter().map(|record| Evaluated::read(record, &layout));
    let evaluated = evaluated.collect::<Result<Vec<_>, CliError>>()?;
    Ok((name, evaluated, read_steps(&layout).map_err(train_error)?))
}

impl Evaluated {
    fn read(record: EvaluationRecord, layout: &RunLayout) -> Result<Self, CliError> {
        let log = record.items.as_ref().map(|items| layout.root.join(items));
        let mut items = match log.filter(|log| log.is_file()) {
            Some(log) => read_log(&log)?,
            None => Vec::new(),
        };
        // The log may also have what another model was asked at the same tokens, before a rewind.
        items.retain(|item| Some(&item.model) == record.asked_as.as_ref());
        Ok(Self { record, items })
    }

    /// What was measured, and its standard error.
    pub(super) fn value(&self, (kind, name, metric): &Key) -> Option<(f64, Option<f64>)> {
        match kind {
            Kind::Source => {
                let score = self.record.sources.get(name)?;
                let (_, error) = ratio(&bits(&score.nats), &bytes(score))?;
                Some((score.bits_per_byte, error))
            }
            Kind::Task => {
                let is_it =
                    |of: &&terrace_train::TaskScore| of.task == *name && of.metric == *metric;
                let score = self.record.tasks.iter().find(is_it)?;
                Some((score.value, score.standard_error))
            }
        }
    }

    /// This value less an earlier one, its standard error, and the items that flipped.
    pub(super) fn difference(
        &self,
        before: &Self,
        key: &Key,
    ) -> Option<(f64, Option<f64>, Option<Flips>)> {
        let (one, other) = (before.value(key)?, self.value(key)?);
        let paired = match key.0 {
            Kind::Source => windows(&before.record, &self.record, &key.1),
            Kind::Task => self.changes(before).get(&key.1).map(|change| {
                let Change { difference, standard_error, flips, .. } = *change;
                (difference, standard_error, flips)
            }),
        };
        let apart = || {
            let error = one.1.zip(other.1).map(|(one, other)| one.hypot(other));
            (other.0 - one.0, error, None)
        };
        Some(paired.unwrap_or_else(apart))
    }

    fn changes(&self, before: &Self) -> BTreeMap<String, Change> {
        changes(&before.items, &self.items)
    }
}

/// Window by window, where both evaluations have the same windows.
fn windows(
    before: &EvaluationRecord,
    after: &EvaluationRecord,
    source: &str,
) -> Option<(f64, Option<f64>, Option<Flips>)> {
    let (before, after) = (before.sources.get(source)?, after.sources.get(source)?);
    if before.bytes != after.bytes {
        return None;
    }
    let pairs = before.nats.iter().zip(&after.nats);
    let nats: Vec<f64> = pairs.map(|(before, after)| after - before).collect();
    ratio(&bits(&nats), &bytes(after)).map(|(difference, error)| (difference, error, None))
}

fn bits(nats: &[f64]) -> Vec<f64> {
    nats.iter().map(|nats| nats / std::f64::consts::LN_2).collect()
}

fn bytes(score: &SourceScore) -> Vec<f64> {
    score.bytes.iter().map(|bytes| *bytes as f64).collect()
}
