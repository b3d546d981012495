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
mod speech;
mod table;
mod terminal;

use std::process;

use crate::context::Context;
use crate::environment::Environment;

fn main() -> process::ExitCode {
    let environment = Environment::capture();
    let arguments = match args::parse(&environment) {
        Ok(arguments) => arguments,
        Err(exit) => return exit.into(),
    };
    let context = Context::new(&arguments.global, environment);
    // The timeline is whole once this is gone.
    let ended = match logging::start(&context, arguments.global.profile.as_deref()) {
        Ok(_timeline) => commands::run(arguments.verb, &context),
        Err(error) => Err(error),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => diagnose::report(&error, &context).into(),
    }
}
