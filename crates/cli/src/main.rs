//! The `terrace` command: verbs, device choice, logging, error rendering. The only crate that
//! prints, reads the environment, picks a device and holds backend features.

mod args;
mod commands;
mod context;
mod device;
mod diagnose;
mod drawing;
mod environment;
mod error;
mod exit;
mod logging;
mod machine;
mod progress;
mod shares;
mod speech;
mod table;
mod terminal;
mod timeline;

use std::process;

use crate::args::Arguments;
use crate::context::Context;
use crate::environment::Environment;
use crate::error::CliError;
use crate::exit::ExitCode;

fn main() -> process::ExitCode {
    let environment = Environment::capture();
    let arguments = match args::parse(&environment) {
        Ok(arguments) => arguments,
        Err(exit) => return exit.into(),
    };
    let context = Context::new(&arguments.global, environment);
    match run(arguments, &context) {
        Ok(exit) => exit.into(),
        Err(error) => diagnose::report(&error, &context).into(),
    }
}

fn run(arguments: Arguments, context: &Context) -> Result<ExitCode, CliError> {
    let timeline = logging::start(context, arguments.global.profile.as_deref())?;
    let ended = commands::run(arguments.verb, context);
    let told = timeline.map_or(ExitCode::Done, |timeline| timeline.finish(context));
    match ended? {
        ExitCode::Done => Ok(told),
        exit => Ok(exit),
    }
}
