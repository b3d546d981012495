//! `terrace mix`: another mixture for what is still to come of a stopped run.

use std::path::PathBuf;

use serde::Serialize;
use terrace_checkpoint::RunLayout;
use terrace_config::{Change, MixFrom, RunConfig, SourcePlan, differences, load, load_mixture};
use terrace_train::StoppedRun;

use super::training;
use crate::args::MixArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

/// What was changed.
#[derive(Serialize)]
struct Answer {
    run: PathBuf,
    /// Whether anything was: a mixture that is drawn already changes nothing.
    changed: bool,
    stage: usize,
    stage_name: String,
    /// The tokens seen where the mixture begins to hold.
    from_tokens: u64,
    changes: Vec<Change>,
    /// Every source over the whole run, as it is planned now.
    sources: Vec<SourcePlan>,
}

/// Appends a segment to the schedule of the run.
pub(crate) fn run(args: &MixArgs, context: &Context) -> Result<ExitCode, CliError> {
    let layout = RunLayout::new(&args.run);
    let mut run = StoppedRun::open(&layout, None).map_err(training::train_error)?;
    let mut edited = load(&layout.config(), &[])?;
    run.history.settle(&mut edited.config);
    if !differences(&run.in_force.config, &edited.config).is_empty() {
        let message = format!(
            "{} was edited, and the run has not followed that yet",
            layout.config().display()
        );
        return Err(CliError::input(message).with_help(
            "`terrace resume` shows what differs, and with --accept-changes follows it; or restore \
             the file from the run's history folder",
        ));
    }
    let config = run.in_force.config.clone();
    let names: Vec<&str> = config.sources.keys().map(String::as_str).collect();
    let mixture = load_mixture(&args.mixture, &names)?;
    let from = from(args, &config)?;
    let mixed = run.mix(from, &mixture).map_err(training::train_error)?;
    let plan = training::plan(&run.history.in_force().map_err(training::train_error)?)?;
    let answer = Answer {
        run: args.run.clone(),
        changed: mixed.decision.is_some(),
        stage: mixed.stage,
        stage_name: config.stages[mixed.stage].name.clone(),
        from_tokens: mixed.from_tokens.0,
        changes: mixed.revision.changes,
        sources: plan.sources,
    };
    let reason = mixed.decision.map(|decision| decision.reason);
    context.answer(&answer, || text(&answer, reason));
    Ok(ExitCode::Done)
}

fn from(args: &MixArgs, config: &RunConfig) -> Result<MixFrom, CliError> {
    let Some(stage) = args.from_stage.as_ref().filter(|_| !args.from_next_step) else {
        return Ok(MixFrom::NextStep);
    };
    let named = config.stages.iter().position(|known| known.name == *stage);
    if let Some(place) = named.or_else(|| stage.parse().ok()) {
        return Ok(MixFrom::Stage(place));
    }
    let stages = config.stages.iter().enumerate();
    let known: Vec<String> = stages.map(|(i, stage)| format!("{i} `{}`", stage.name)).collect();
    let message = format!("there is no stage `{stage}`");
    Err(CliError::input(message).with_help(format!("the stages are {}", known.join(", "))))
}

fn text(answer: &Answer, reason: Option<String>) -> String {
    let Some(reason) = reason else {
        return format!("stage `{}` draws by that mixture already", answer.stage_name);
    };
    let mut table = Table::new(["source", "windows", "available", "epochs", "cap"]);
    for source in &answer.sources {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), grouped);
        table.row([
            source.source.clone(),
            grouped(source.windows),
            number(source.windows_available),
            source.epochs.map_or_else(|| "-".to_owned(), |epochs| format!("{epochs:.2}")),
            source.cap.map_or_else(|| "none".to_owned(), |cap| cap.to_string()),
        ]);
    }
    format!(
        "{reason}\n\nover the whole run\n{}\n`terrace resume {}` goes on with it",
        table.render(),
        answer.run.display()
    )
}
