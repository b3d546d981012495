//! `terrace bench`: speed and memory, measured.

mod inference;
mod int8;
mod kernels;
mod loader;
mod peaks;
mod plateau;
mod prepare;
mod shape;
mod train;

use crate::args::{BenchArgs, BenchVerb};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// Measures what was asked for.
pub(crate) fn run(args: BenchArgs, context: &Context) -> Result<ExitCode, CliError> {
    match args.what {
        BenchVerb::Train(args) => train::run(&args, context),
        BenchVerb::Kernels(args) => kernels::run(&args, context),
        BenchVerb::Loader(args) => loader::run(&args, context),
        BenchVerb::Prepare(args) => prepare::run(&args, context),
        BenchVerb::Plateau(args) => plateau::run(&args, context),
        BenchVerb::Int8(args) => int8::run(&args, context),
        BenchVerb::Decode(args) => inference::decode::run(&args, context),
        BenchVerb::Prefill(args) => inference::prefill::run(&args, context),
    }
}

/// Refuses what would have no room: an allocation that fails ends the process without a word.
fn require_memory(bytes: u128) -> Result<(), CliError> {
    let free = crate::machine::memory().available_bytes;
    if bytes <= u128::from(free) {
        return Ok(());
    }
    let needed = terrace_base::format_bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
    let free = terrace_base::format_bytes(free);
    let message = format!("--batch takes {needed} at least, and {free} are free");
    Err(CliError::environment(message).with_help("a smaller --batch takes less"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The resident set of this process: `VmRSS:` as it is, `VmHWM:` the largest so far.
fn resident_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}
