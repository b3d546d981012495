//! `terrace eval`: tasks asked of a model, and its scores.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use terrace_config::load_task;
use terrace_eval::contamination::Flagged;
use terrace_eval::{Evaluation, ItemRecord, Observer, Report, Settings};
use terrace_infer::Counts;
use terrace_model::Precision;

use super::model::{self, FoundModel, Room};
use crate::args::EvalArgs;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::{Progress, Unit};
use crate::table::grouped;

#[derive(Serialize)]
struct Answer<'a> {
    path: &'a PathBuf,
    #[serde(flatten)]
    report: Report,
    work: Work,
}

/// What it took.
#[derive(Serialize)]
struct Work {
    seconds: f64,
    /// Tokens of prompts that went through the model.
    prompt_tokens: u64,
    /// Tokens of prompts that another prompt began with too, and that were not computed again.
    shared_tokens: u64,
    new_tokens: u64,
}

impl Work {
    fn new(counts: Counts, seconds: f64) -> Self {
        Self {
            seconds,
            prompt_tokens: counts.prefilled,
            shared_tokens: counts.shared,
            new_tokens: counts.generated,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let computed = self.prompt_tokens + self.new_tokens;
        write!(
            f,
            "{} tokens of prompts and {} new ones in {:.1} s, {:.0} a second; {} were shared between \
             prompts and computed once",
            grouped(self.prompt_tokens),
            grouped(self.new_tokens),
            self.seconds,
            computed as f64 / self.seconds.max(1e-9),
            grouped(self.shared_tokens),
        )
    }
}

/// Asks the tasks, and reports the scores.
pub(crate) fn run(args: &EvalArgs, context: &Context) -> Result<ExitCode, CliError> {
    let overrides = args.overrides.pairs();
    let tasks = args.tasks.iter().map(|path| Ok(load_task(path, &overrides)?.config));
    let tasks = tasks.collect::<Result<Vec<_>, CliError>>()?;
    let flagged = match args.contamination.is_empty() {
        true => None,
        false => Some(Flagged::read(&args.contamination)?),
    };
    let settings = Settings {
        limit: args.limit.map(|limit| limit as usize),
        log: args.log_items.clone(),
        sandboxes: usize::from(args.sandboxes),
        flagged,
        ..Settings::new(tasks, "")
    };
    // What is wrong with tasks is told before a large model is loaded.
    let evaluation = Evaluation::prepare(settings)?;
    let device = device::open(args.device, context)?;
    let precision = device::precision(args.precision, args.device, &device)?;
    let found = model::locate(&args.model)?;
    let (slots, length) = (usize::from(args.batch), found.context_length(args.context)?);
    let needed = Room { device: args.device, precision, slots, length };
    let evaluation = evaluation.of_model(name(args, &found, precision)?);
    let (mut engine, tokenizer) = found.engine(&device, needed, args.batch_invariant, context)?;
    let started = Instant::now();
    let mut watch = Watch { context, progress: None };
    let report = evaluation.ask(&mut engine, &tokenizer, &mut watch)?;
    let work = Work::new(engine.counts(), started.elapsed().as_secs_f64());
    let answer = Answer { path: &args.model, report, work };
    context.answer(&answer, || format!("{}\n{}", answer.report, answer.work));
    Ok(ExitCode::Done)
}

/// What the model is called in the log.
fn name(args: &EvalArgs, found: &FoundModel, precision: Precision) -> Result<String, CliError> {
    Ok(model::asked_as(found.fingerprint()?, args.device, precision, args.batch_invariant))
}

/// A bar for each task.
struct Watch<'a> {
    context: &'a Context,
    progress: Option<(Progress<'a>, f64, usize)>,
}

impl Observer for Watch<'_> {
    fn begins(&mut self, task: &str, items: usize, known: usize) {
        self.end();
        if known > 0 {
            self.context.note(&format!("{task}: {known} of {items} items are in the log already"));
        }
        let progress = Progress::start(self.context, task, Unit::Count, Some(items as u64));
        self.progress = Some((progress, 0.0, 0));
    }

    fn scored(&mut self, record: &ItemRecord, done: usize, items: usize) {
        let Some((progress, sum, count)) = &mut self.progress else { return };
        *sum += record.metrics.get(&record.metric).copied().unwrap_or(0.0);
        *count += 1;
        progress.update(done as u64, || format!("{} {:.3}", record.metric, *sum / *count as f64));
        if done == items {
            self.end();
        }
    }
}

impl Watch<'_> {
    fn end(&mut self) {
        if let Some((progress, ..)) = self.progress.take() {
            progress.finish();
        }
    }
}
