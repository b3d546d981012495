//! `terrace inspect`: what a folder holds, and whether it is as it was written.

mod checkpoint;
pub(super) mod edition;
mod mixture;
mod model;
mod recognise;
mod run;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use self::recognise::{Kind, recognise};
use crate::args::InspectArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::{Progress, Unit};

/// What a folder holds.
#[derive(Debug, Serialize)]
struct Inspection {
    kind: Kind,
    path: PathBuf,
    /// Whether everything is as it was written; null if that was not looked at.
    verified: Option<bool>,
    /// What is damaged.
    problems: Vec<Problem>,
    #[serde(flatten)]
    facts: Map<String, Value>,
    #[serde(skip)]
    text: String,
}

/// One damaged file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Problem {
    file: PathBuf,
    message: String,
}

/// What one kind of folder says about itself.
#[derive(Debug, Default)]
struct Description {
    /// For programs.
    facts: Map<String, Value>,
    /// For people.
    text: String,
    /// What is damaged, in the order found.
    problems: Vec<Problem>,
}

/// How a folder is to be looked at.
struct Look<'a> {
    path: &'a Path,
    verify: bool,
    context: &'a Context,
}

/// Recognises the folder, describes it and verifies it.
pub(crate) fn run(args: &InspectArgs, context: &Context) -> Result<ExitCode, CliError> {
    let (kind, path) = recognise(&args.path)?;
    let look = Look { path: &path, verify: !args.no_verify, context };
    let description = match kind {
        Kind::Edition => edition::describe(&look)?,
        Kind::Model => model::describe(&look)?,
        Kind::Checkpoint => checkpoint::describe(&look)?,
        Kind::Run => run::describe(&look)?,
    };
    let sound = description.problems.is_empty();
    let inspection = Inspection {
        kind,
        verified: if look.verify { Some(sound) } else { (!sound).then_some(false) },
        path,
        problems: description.problems,
        facts: description.facts,
        text: description.text,
    };
    context.answer(&inspection, || inspection.text());
    Ok(if sound { ExitCode::Done } else { ExitCode::GateFailed })
}

impl Inspection {
    fn text(&self) -> String {
        let mut text = format!("{} at {}\n\n", self.kind.noun(), self.path.display());
        text.push_str(&self.text);
        let verdict = match self.verified {
            Some(true) => format!("verified: {}", self.kind.promise()),
            Some(false) => {
                let lines = self.problems.iter().map(|problem| format!("  {}\n", problem.message));
                format!("DAMAGED:\n{}", lines.collect::<String>())
            }
            None => "not verified".to_owned(),
        };
        format!("{text}\n{verdict}\n")
    }
}

impl Look<'_> {
    /// The same look at another folder.
    fn at<'b>(&'b self, path: &'b Path) -> Look<'b> {
        Look { path, verify: self.verify, context: self.context }
    }

    /// A bar for hashing so many bytes.
    fn hashing(&self, bytes: u64) -> Progress<'_> {
        Progress::start(self.context, "verifying", Unit::Bytes, Some(bytes))
    }
}

/// Turns what serialises to an object into its fields.
fn fields(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("facts are objects, found {other:?}"),
    }
}
