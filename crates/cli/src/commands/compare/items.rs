//! Logs of scored items side by side.

use std::path::Path;

use serde::Serialize;
use terrace_base::Seed;
use terrace_eval::{Comparison, Flip, ItemRecord, compare, flipped, read_log};

use crate::args::CompareArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// What items are drawn again with; any number serves.
const SEED: Seed = Seed(0);

#[derive(Serialize)]
struct Answer<'a> {
    before: &'a Path,
    comparisons: Vec<Against<'a>>,
}

/// A later log against the first.
#[derive(Serialize)]
struct Against<'a> {
    after: &'a Path,
    #[serde(flatten)]
    comparison: Comparison,
    /// The items that were gained or lost.
    flipped: Vec<Flip>,
}

/// Sets the logs side by side, each later one against the first.
pub(super) fn run(args: &CompareArgs, context: &Context) -> Result<ExitCode, CliError> {
    if args.picture.is_some() {
        let message = "--picture draws the losses of runs, and these are logs of items";
        return Err(CliError::input(message).with_help("leave it out, or name folders of runs"));
    }
    let (first, later) = args.runs.split_first().expect("two at least");
    let before = read(first)?;
    let comparisons = later.iter().map(|after| against(first, &before, after));
    let comparisons = comparisons.collect::<Result<Vec<_>, CliError>>()?;
    let answer = Answer { before: first, comparisons };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn against<'a>(
    first: &Path,
    before: &[ItemRecord],
    after: &'a Path,
) -> Result<Against<'a>, CliError> {
    let records = read(after)?;
    let comparison = compare(before, &records, SEED);
    if comparison.tasks.is_empty() {
        let (first, after) = (first.display(), after.display());
        return Err(CliError::input(format!("{first} and {after} have no task in common")));
    }
    Ok(Against { after, comparison, flipped: flipped(before, &records) })
}

fn read(path: &Path) -> Result<Vec<ItemRecord>, CliError> {
    let records = read_log(path)?;
    if records.is_empty() {
        return Err(CliError::input("the log holds no item").at(path));
    }
    Ok(records)
}

fn text(answer: &Answer<'_>) -> String {
    let of = |against: &Against<'_>| {
        format!(
            "{} -> {}\n{}",
            answer.before.display(),
            against.after.display(),
            against.comparison
        )
    };
    let mut text = answer.comparisons.iter().map(of).collect::<Vec<_>>().join("\n");
    text.push_str("--json names the items that were gained and lost\n");
    text
}
