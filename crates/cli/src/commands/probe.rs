//! `terrace probe-batch`: how large a batch loses nothing, by branches at multiples of it.

mod branches;
mod plan;

use std::path::PathBuf;

use serde::Serialize;
use terrace_checkpoint::RunLayout;
use terrace_policy::probe::{Multiple, critical, judge};
use terrace_train::{StopFlag, StoppedRun};

use crate::args::{Coupling, ProbeBatchArgs};
use crate::commands::training;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

use self::branches::Branches;
use self::plan::ProbePlan;

/// What the probe found.
#[derive(Serialize)]
struct Answer {
    run: PathBuf,
    checkpoint: PathBuf,
    output: PathBuf,
    /// Whether all branches are trained; if not, the same command goes on.
    complete: bool,
    from_tokens: u64,
    /// What each branch trains on.
    tokens: u64,
    /// The run's batch.
    batch_tokens: u64,
    /// The tokens whose losses are averaged before they are smoothed: one step of the largest.
    block_tokens: u64,
    coupling: Coupling,
    tolerance_nats: f64,
    results: Vec<BranchResult>,
    critical_multiple: Option<u64>,
    critical_batch_tokens: Option<u64>,
}

/// One branch.
#[derive(Serialize)]
struct BranchResult {
    #[serde(flatten)]
    multiple: Multiple,
    batch_tokens: u64,
    learning_rate: f64,
    steps: u64,
    run_directory: PathBuf,
}

/// Trains what is not trained yet, and judges.
pub(crate) fn run(args: &ProbeBatchArgs, context: &Context) -> Result<ExitCode, CliError> {
    let run = StoppedRun::open(&RunLayout::new(&args.run), args.at);
    let run = run.map_err(training::train_error)?;
    let plan = ProbePlan::new(args, &run)?;
    context.note(&format!(
        "from {} tokens on, {} tokens at each of {} batches of {}; branches go to {}",
        grouped(plan.from_tokens),
        grouped(plan.tokens),
        plan.multiples.len(),
        grouped(plan.batch_tokens),
        plan.output.display()
    ));
    let stop = StopFlag::default();
    training::signals::arm(&stop).map_err(CliError::environment)?;
    let choice = args.device.unwrap_or(run.in_force.config.device);
    let device = device::open(choice, context)?;
    let branches = Branches { run: &run, plan: &plan, choice, device, stop, context };
    let mut trained = Vec::new();
    for multiple in &plan.multiples {
        match branches.train(*multiple)? {
            Some(branch) => trained.push(branch),
            None => break,
        }
    }
    let losses: Vec<(u64, f64)> = trained.iter().map(|b| (b.multiple, b.nats)).collect();
    let judged = judge(&losses, args.tolerance);
    let complete = trained.len() == plan.multiples.len();
    let critical = critical(&judged).filter(|_| complete);
    let checkpoint = run.checkpoint.as_ref().expect("a plan has one");
    let results = judged.into_iter().zip(trained).map(|(multiple, branch)| BranchResult {
        batch_tokens: multiple.multiple * plan.batch_tokens,
        learning_rate: branch.learning_rate,
        steps: branch.steps,
        run_directory: branch.run_directory,
        multiple,
    });
    let answer = Answer {
        run: args.run.clone(),
        checkpoint: checkpoint.path().to_owned(),
        output: plan.output.clone(),
        complete,
        from_tokens: plan.from_tokens,
        tokens: plan.tokens,
        batch_tokens: plan.batch_tokens,
        block_tokens: plan.block_tokens,
        coupling: args.coupling,
        tolerance_nats: args.tolerance,
        results: results.collect(),
        critical_multiple: critical,
        critical_batch_tokens: critical.map(|multiple| multiple * plan.batch_tokens),
    };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn text(answer: &Answer) -> String {
    let heading = ["multiple", "batch", "learning rate", "steps", "nats", "excess", "verdict"];
    let mut table = Table::new(heading);
    for result in &answer.results {
        table.row([
            format!("{}x", result.multiple.multiple),
            grouped(result.batch_tokens),
            format!("{:e}", result.learning_rate),
            grouped(result.steps),
            format!("{:.4}", result.multiple.nats),
            format!("{:+.4}", result.multiple.excess_nats),
            (if result.multiple.loses_nothing { "loses nothing" } else { "loses" }).to_owned(),
        ]);
    }
    let verdict = match (answer.critical_multiple, answer.critical_batch_tokens) {
        (Some(multiple), Some(batch)) => format!(
            "{multiple}x loses nothing within {} nats: a batch of {} tokens",
            answer.tolerance_nats,
            grouped(batch)
        ),
        _ => "stopped; the same command goes on".to_owned(),
    };
    format!("{}\n{verdict}", table.render())
}
