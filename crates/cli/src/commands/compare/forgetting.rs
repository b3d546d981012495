//! The forgetting map of a run: what each stage gained and lost, per source and per task.

mod picture;
mod read;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use terrace_base::Fingerprint;
use terrace_eval::statistics::Flips;
use terrace_train::{EvaluationRecord, Occasion, StepRecord};

use self::read::Evaluated;
use crate::args::CompareArgs;
use crate::context::Context;
use crate::drawing;
use crate::error::CliError;
use crate::exit::ExitCode;

/// The map; the cells of a row have the order of the points.
#[derive(Serialize)]
struct Answer {
    run: PathBuf,
    name: String,
    points: Vec<Point>,
    rows: Vec<Row>,
    /// From each edge of a stage to the next.
    stages: Vec<StageChange>,
}

/// An evaluated point of a run.
#[derive(Serialize)]
struct Point {
    label: String,
    tokens_seen: u64,
    occasion: Occasion,
    stage: String,
    /// The digest of the state; of a base, of its weights.
    model: Fingerprint,
}

/// A source or a task over all points.
#[derive(Serialize)]
struct Row {
    kind: Kind,
    name: String,
    metric: String,
    lower_is_better: bool,
    cells: Vec<Option<Cell>>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Held-out text of a source of the run.
    Source,
    /// A task.
    Task,
}

/// What was measured at a point.
#[derive(Serialize)]
struct Cell {
    value: f64,
    standard_error: Option<f64>,
    /// What became of it since the first point that has it; null there.
    since_first: Option<Moved>,
}

/// From one point to another.
#[derive(Clone, Copy, Debug, Serialize)]
struct Moved {
    /// The later value less the earlier.
    difference: f64,
    /// Its standard error: window by window, or item by item, where both points have the same.
    standard_error: Option<f64>,
    /// The difference in standard errors, positive where it is for the better; null without an error.
    gain_in_errors: Option<f64>,
    /// Items gained and lost, where each is right or wrong.
    flips: Option<Flips>,
}

/// What a stage did.
#[derive(Serialize)]
struct StageChange {
    stage: String,
    from: String,
    to: String,
    from_tokens: u64,
    to_tokens: u64,
    changes: Vec<StageRow>,
}

/// What a stage did to a source or a task.
#[derive(Serialize)]
struct StageRow {
    kind: Kind,
    name: String,
    metric: String,
    /// What was gained in units of the metric: positive is better, negative is forgotten.
    gain: f64,
    moved: Moved,
    /// The targets of the source that the stage trained on; null for tasks.
    tokens: Option<u64>,
    /// The gain per billion tokens of the source itself; null where it drew none.
    gain_per_billion_tokens: Option<f64>,
}

/// Reads the evaluations of a run and lays them out.
pub(super) fn run(
    path: &Path,
    args: &CompareArgs,
    context: &Context,
) -> Result<ExitCode, CliError> {
    drawing::check(args.picture.as_deref())?;
    let (name, evaluated, steps) = read::run(path)?;
    let answer = map(path, name, &evaluated, &steps);
    let code = drawing::write(args.picture.as_deref(), context, || picture::figure(&answer));
    context.answer(&answer, || text::render(&answer));
    Ok(code)
}

fn map(path: &Path, name: String, evaluated: &[Evaluated], steps: &[StepRecord]) -> Answer {
    let rows = keys(evaluated).into_iter().map(|key| row(key, evaluated)).collect();
    Answer {
        run: path.to_owned(),
        name,
        points: evaluated.iter().map(|evaluated| point(&evaluated.record)).collect(),
        rows,
        stages: stages(evaluated, steps),
    }
}

fn point(record: &EvaluationRecord) -> Point {
    Point {
        label: record.label(),
        tokens_seen: record.tokens_seen.0,
        occasion: record.occasion,
        stage: record.stage.clone(),
        model: record.model,
    }
}

/// What names a row.
type Key = (Kind, String, String);

/// The sources by name, then the tasks in the order in which they are asked.
fn keys(evaluated: &[Evaluated]) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let sources: BTreeMap<&String, ()> =
        evaluated.iter().flat_map(|of| of.record.sources.keys()).map(|name| (name, ())).collect();
    keys.extend(
        sources.into_keys().map(|name| (Kind::Source, name.clone(), "bits_per_byte".to_owned())),
    );
    for score in evaluated.iter().flat_map(|of| &of.record.tasks) {
        let key = (Kind::Task, score.task.clone(), score.metric.clone());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn row(key: Key, evaluated: &[Evaluated]) -> Row {
    let first = evaluated.iter().position(|of| of.value(&key).is_some());
    let cell = |(place, of): (usize, &Evaluated)| {
        let (value, standard_error) = of.value(&key)?;
        let earlier = first.filter(|first| *first < place).map(|first| &evaluated[first]);
        let since_first = earlier.and_then(|earlier| moved(&key, earlier, of));
        Some(Cell { value, standard_error, since_first })
    };
    let cells = evaluated.iter().enumerate().map(cell).collect();
    let lower_is_better = lower_is_better(&key.2);
    let (kind, name, metric) = key;
    Row { kind, name, metric, lower_is_better, cells }
}

fn moved(key: &Key, before: &Evaluated, after: &Evaluated) -> Option<Moved> {
    let (difference, standard_error, flips) = after.difference(before, key)?;
    let gain = if lower_is_better(&key.2) { -difference } else { difference };
    let gain_in_errors = match standard_error {
        _ if difference == 0.0 => Some(0.0),
        Some(error) if error > 0.0 => Some(gain / error),
        _ => None,
    };
    Some(Moved { difference, standard_error, gain_in_errors, flips })
}

/// Costs, unlike shares of right answers.
fn lower_is_better(metric: &str) -> bool {
    metric == "bits_per_byte" || metric.ends_with("perplexity")
}

/// From each edge of a stage to the next; the last one may be where the run stands.
fn stages(evaluated: &[Evaluated], steps: &[StepRecord]) -> Vec<StageChange> {
    let last = evaluated.len().saturating_sub(1);
    let is_edge = |place: usize| {
        evaluated[place].record.occasion != Occasion::Tokens || place == 0 || place == last
    };
    let edges: Vec<&Evaluated> = (0..evaluated.len())
        .filter(|place| is_edge(*place))
        .map(|place| &evaluated[place])
        .collect();
    edges.windows(2).map(|pair| stage(pair[0], pair[1], steps)).collect()
}

fn stage(before: &Evaluated, after: &Evaluated, steps: &[StepRecord]) -> StageChange {
    let (from, to) = (before.record.tokens_seen, after.record.tokens_seen);
    let tokens = |source: &str| -> u64 {
        let within = steps.iter().filter(|step| step.tokens_seen > from && step.tokens_seen <= to);
        within.filter_map(|step| step.target_tokens_per_source.get(source)).sum()
    };
    let change = |key: Key| {
        let moved = moved(&key, before, after)?;
        let gain = if lower_is_better(&key.2) { -moved.difference } else { moved.difference };
        let (kind, name, metric) = key;
        let tokens = (kind == Kind::Source).then(|| tokens(&name));
        let billions = tokens.filter(|tokens| *tokens > 0).map(|tokens| tokens as f64 / 1e9);
        let gain_per_billion_tokens = billions.map(|billions| gain / billions);
        Some(StageRow { kind, name, metric, gain, moved, tokens, gain_per_billion_tokens })
    };
    StageChange {
        stage: match after.record.occasion {
            // What separates these two is no training.
            Occasion::Base | Occasion::Start => "(made deeper)".to_owned(),
            _ => after.record.stage.clone(),
        },
        from: before.record.label(),
        to: after.record.label(),
        from_tokens: from.0,
        to_tokens: to.0,
        changes: keys(std::slice::from_ref(after)).into_iter().filter_map(change).collect(),
    }
}

#[cfg(test)]
mod tests;
