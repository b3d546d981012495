//! `terrace doctor`: what this machine offers, and what is missing.

mod checks;
mod findings;

use serde::Serialize;

use self::checks::{Check, Status};
use self::findings::Findings;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::Table;

/// The answer: what was found, and what to think of it.
#[derive(Serialize)]
struct Answer {
    version: &'static str,
    #[serde(flatten)]
    findings: Findings,
    checks: Vec<Check>,
}

/// Looks at the machine and says what it offers; a missing driver is a finding, not an error.
pub(crate) fn run(context: &Context) -> Result<ExitCode, CliError> {
    let findings = Findings::look(&context.environment);
    let checks = checks::judge(&findings);
    let answer = Answer { version: env!("CARGO_PKG_VERSION"), findings, checks };
    context.answer(&answer, || text(&answer.checks));
    Ok(ExitCode::Done)
}

fn text(checks: &[Check]) -> String {
    let mut table = Table::new(["status", "what", "found", "what to do"]);
    for check in checks {
        let remedy = check.remedy.as_deref().unwrap_or_default();
        table.row([check.status.word(), &check.name, &check.found, remedy]);
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    format!(
        "{}\n{} fine, {} to look at, {} not there\n",
        table.render(),
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Missing)
    )
}
