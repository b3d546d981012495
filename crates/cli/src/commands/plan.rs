//! `terrace plan`: every number that follows from a run file, without touching a device.

use serde::Serialize;
use terrace_config::{
    Explanation, PlanOptions, RunPlan, gather, load, render, render_explanation, resolve,
};

use super::evaluation;
use crate::args::PlanArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// The plan as a program reads it.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    plan: RunPlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Vec<Explanation>>,
}

/// Loads the run file, looks at what it refers to, and shows what follows.
pub(crate) fn run(args: &PlanArgs, context: &Context) -> Result<ExitCode, CliError> {
    let loaded = load(&args.file, &args.overrides.pairs())?;
    let facts = gather(&loaded.config)?;
    let options = PlanOptions { tokens_per_second: args.tokens_per_second };
    let mut plan = resolve(&loaded, &facts, &options)?;
    evaluation::look(&loaded.config, facts.architecture.as_ref(), &mut plan)?;
    let device = loaded.config.device;
    if let Err(error) = evaluation::refuse_what_does_not_fit(device, &plan, context) {
        // Here it is said and not refused: the run may be meant for another machine.
        plan.warnings.push(error.to_string());
    }
    let explanation = args.explain.then(|| loaded.explain());
    let answer = Answer { plan, explanation };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn text(answer: &Answer) -> String {
    let plan = render(&answer.plan);
    match &answer.explanation {
        Some(explanation) => {
            format!("{plan}\nWhere each value comes from\n{}", render_explanation(explanation))
        }
        None => plan,
    }
}
