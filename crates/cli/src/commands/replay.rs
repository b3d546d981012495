//! `terrace replay`: another controller over the losses that a run has on record.

mod picture;

use terrace_base::Tokens;
use terrace_checkpoint::RunLayout;
use terrace_config::{RunPlan, load_controller};
use terrace_train::{BatchGrowth, History, Replay, read_steps, replay};

use super::training::train_error;
use crate::args::ReplayArgs;
use crate::context::Context;
use crate::drawing;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

/// Reads the run's steps, lets the controller see them, and shows where it would have grown.
pub(crate) fn run(args: &ReplayArgs, context: &Context) -> Result<ExitCode, CliError> {
    let layout = RunLayout::new(&args.run);
    if !layout.is_run() {
        let message = format!("{} is not a run directory", args.run.display());
        return Err(CliError::input(message).with_help("`terrace train FILE` makes one"));
    }
    let overrides = args.overrides.pairs();
    if let Some((path, _)) = overrides.iter().find(|(path, _)| !path.starts_with("batch.")) {
        let message = format!("`{path}` is no part of a controller");
        return Err(CliError::input(message).with_help("only batch.* can be set"));
    }
    drawing::check(args.picture.as_deref())?;
    let history = History::open(&layout).map_err(train_error)?;
    let recorded = history.in_force().map_err(train_error)?.config;
    let other = load_controller(&history.in_force_path(), args.controller.as_deref(), &overrides)?;
    let mut plan = plan(&layout)?;
    // The folder may have been moved since.
    plan.run_directory.clone_from(&args.run);
    let steps = read_steps(&layout).map_err(train_error)?;
    let found = replay(&recorded, &other.config, &plan, &steps, was_steered(&layout, &history))
        .map_err(train_error)?;
    let figure = || picture::figure(&found, &steps, recorded.training.sequence_length as u64);
    let code = drawing::write(args.picture.as_deref(), context, figure);
    context.answer(&found, || text(&found));
    Ok(code)
}

/// Whether the steps on record were taken under more than one run file, or not one after the other.
fn was_steered(layout: &RunLayout, history: &History) -> bool {
    let own = history.entries().iter().all(|entry| matches!(&*entry.event, "start" | "init"));
    let journal = std::fs::read_to_string(layout.journal()).unwrap_or_default();
    let mut events = journal.lines().filter_map(|line| serde_json::from_str(line).ok());
    let went_back = |event: serde_json::Value| event["event"] == "rewind";
    !own || history.entries().len() > 1 || events.any(went_back)
}

fn plan(layout: &RunLayout) -> Result<RunPlan, CliError> {
    let path = layout.plan();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| CliError::input(format!("cannot read {}: {error}", path.display())))?;
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("{} is no plan of this version: {error}", path.display());
        CliError::input(message)
    })
}

fn text(found: &Replay) -> String {
    let whose = if found.same_controller { "the run's own controller" } else { "this controller" };
    let mut text = format!(
        "{} steps, {} tokens; {} decisions of {whose}\n",
        grouped(found.steps),
        grouped(found.tokens_seen.0),
        grouped(found.decisions.len() as u64),
    );
    let mut table = Table::new(["who grew", "tokens seen", "from", "to", "why"]);
    let mut rows: Vec<(Tokens, &str, &BatchGrowth)> = Vec::new();
    rows.extend(found.recorded_growths.iter().map(|g| (g.tokens_seen, "the run", g)));
    rows.extend(found.growths.iter().map(|g| (g.tokens_seen, "replayed", g)));
    rows.sort_by_key(|(tokens_seen, ..)| *tokens_seen);
    for (tokens_seen, who, growth) in &rows {
        table.row([
            (*who).to_owned(),
            grouped(tokens_seen.0),
            grouped(growth.from_tokens.0),
            grouped(growth.to_tokens.0),
            growth.reason.clone(),
        ]);
    }
    if table.is_empty() {
        text.push_str("no growth, neither of the run nor of this controller\n");
    } else {
        text.push_str(&table.render());
    }
    if !found.same_controller && found.growths.len() > 1 {
        text.push_str(
            "the first growth stands; each later one assumes that the loss went on as recorded\n",
        );
    }
    text
}
