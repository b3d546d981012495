//! The arguments of `terrace bench loader` and `terrace bench prepare`.

use std::path::PathBuf;

use clap::Args;
use terrace_config::Bytes;

use super::BatchShape;

/// The arguments of `terrace bench loader`.
#[derive(Args, Debug)]
#[command(after_help = "\
Editions of random tokens are written into a temporary folder and read in the order that a mixture
dictates; every token, target, position and segment is read once, by nothing else than a sum.

Examples:
  terrace bench loader
  terrace bench loader --sources 1,64,256 --batch 1x4096 --json")]
pub(crate) struct BenchLoaderArgs {
    /// Numbers of sources; several with commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,4,16,64")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) sources: Vec<u16>,
    /// Sequences times their length
    #[arg(long, value_name = "BxT", default_value = "4x1024")]
    pub(crate) batch: BatchShape,
    /// Tokens of all sources together
    #[arg(long, value_name = "N", default_value_t = 1 << 23)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub(crate) tokens: u32,
    /// Tokens that each thread reads for one measurement
    #[arg(long, value_name = "N", default_value_t = 1 << 22)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) read: u32,
    /// How often each is measured; the median is told
    #[arg(long, value_name = "N", default_value_t = 7)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
}

/// The arguments of `terrace bench prepare`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each file is a document; one that is not UTF-8 is left out. The steps are run one after the other on one
core, on batches of the size that prepare makes.

Examples:
  terrace bench prepare --input crates --extension rs
  terrace bench prepare --input corpus.txt --items 0 --json")]
pub(crate) struct BenchPrepareArgs {
    /// Files of text, or folders of them
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// Of folders, only files whose names end in this
    #[arg(long, value_name = "NAME")]
    pub(crate) extension: Option<String>,
    /// The tokenizer's file
    #[arg(long, value_name = "FILE", default_value = "data/base/tokenizer.json")]
    pub(crate) tokenizer: PathBuf,
    /// Text above this is not read
    #[arg(long, value_name = "BYTES", default_value = "32MB")]
    pub(crate) limit: Bytes,
    /// Items of tasks that documents are searched for, each 40 of their words in another order
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) items: u32,
    /// How often each is measured; the median is told
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
}
