//! `terrace bench`: speed and memory, measured.

mod int8;
mod plateau;
mod train;

use crate::args::{BenchArgs, BenchVerb};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// Measures what was asked for.
pub(crate) fn run(args: BenchArgs, context: &Context) -> Result<ExitCode, CliError> {
    match args.what {
        BenchVerb::Train(args) => train::run(&args, context),
        BenchVerb::Plateau(args) => plateau::run(&args, context),
        BenchVerb::Int8(args) => int8::run(&args, context),
    }
}
