//! The arguments of `terrace quantize` and `terrace bench int8`.

use std::path::PathBuf;

use clap::Args;
use terrace_config::Bytes;

use super::upscale::NamedText;

/// The arguments of `terrace quantize`.
#[derive(Args, Debug)]
#[command(after_help = "\
Every weight of a linear product in the layers becomes an integer of eight bits, in blocks of 32
with a scale; embeddings and norms stay. --certify runs both models over text and exits with 1
unless, for every source, the perplexity grows by less than a factor of 1.002 and more than 99% of the
likeliest tokens stay the same.

Examples:
  terrace quantize data/base --output int8
  terrace quantize --certify data/base int8 --text data/prepared/code --text notes.txt")]
pub(crate) struct QuantizeArgs {
    /// The Hugging Face folder of the model
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// With --certify: the folder that was made from it
    #[arg(value_name = "QUANTISED", requires = "certify")]
    pub(crate) quantized: Option<PathBuf>,
    /// The folder of the rounded model
    #[arg(long, short, value_name = "DIR", required_unless_present = "certify")]
    pub(crate) output: Option<PathBuf>,
    /// Round the output projection, too
    #[arg(long, conflicts_with = "certify")]
    pub(crate) lm_head: bool,
    /// The size above which a further file is begun
    #[arg(long, value_name = "BYTES", default_value = "5GB")]
    pub(crate) shard_size: Bytes,
    /// Show what rounding changes in the predictions of held-out text
    #[arg(long, conflicts_with = "output", requires_all = ["quantized", "text"])]
    pub(crate) certify: bool,
    /// A prepared edition, whose held-out part is taken if it has one, or a file of UTF-8 text; as
    /// PATH or NAME=PATH; can be repeated
    #[arg(long, value_name = "TEXT", requires = "certify")]
    pub(crate) text: Vec<NamedText>,
    /// Sequences of each text, spread evenly over it
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) sequences: usize,
}

/// The arguments of `terrace bench int8`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  terrace bench int8 --size 4096x4096 --rows 1,4")]
pub(crate) struct BenchInt8Args {
    /// Inputs times outputs of the matrix; can be repeated
    #[arg(long, value_name = "INxOUT", value_delimiter = ',', value_parser = super::parse::parse_size)]
    #[arg(default_value = "4096x4096,4096x11008,576x1536")]
    pub(crate) size: Vec<[usize; 2]>,
    /// Rows that are multiplied by it at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,4")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rows: Vec<u16>,
    /// How often each product is measured; the shortest time is told
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
}
