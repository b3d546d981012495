//! What each verb does, one file each.

mod bench;
mod branch;
mod compare;
mod doctor;
mod eval;
mod evaluation;
mod export;
mod generate;
mod init;
mod inspect;
mod mix;
mod model;
mod plan;
mod prepare;
mod probe;
mod quantize;
mod replay;
mod resume;
mod revision;
mod serve;
mod simulate;
mod train;
mod training;
mod upscale;

use crate::args::Verb;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// Does what was asked.
pub(crate) fn run(verb: Verb, context: &Context) -> Result<ExitCode, CliError> {
    match verb {
        Verb::Prepare(args) => prepare::run(&args, context),
        Verb::Inspect(args) => inspect::run(&args, context),
        Verb::Plan(args) => plan::run(&args, context),
        Verb::Upscale(args) => upscale::run(&args, context),
        Verb::Train(args) => train::run(args, context),
        Verb::Resume(args) => resume::run(args, context),
        Verb::Replay(args) => replay::run(&args, context),
        Verb::Simulate(args) => simulate::run(&args, context),
        Verb::Init(args) => init::run(args, context),
        Verb::Branch(args) => branch::run(args, context),
        Verb::Mix(args) => mix::run(&args, context),
        Verb::Compare(args) => compare::run(&args, context),
        Verb::ProbeBatch(args) => probe::run(&args, context),
        Verb::Export(args) => export::run(&args, context),
        Verb::Eval(args) => eval::run(&args, context),
        Verb::Generate(args) => generate::run(&args, context),
        Verb::Serve(args) => serve::run(&args, context),
        Verb::Quantize(args) => quantize::run(&args, context),
        Verb::Bench(args) => bench::run(args, context),
        Verb::Doctor => doctor::run(context),
    }
}
