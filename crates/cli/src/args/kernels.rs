//! The arguments of `terrace bench kernels`.

use clap::Args;

use super::BatchShape;

/// The arguments of `terrace bench kernels`.
#[derive(Args, Debug)]
#[command(after_help = "\
The bound is the roofline: the more of the operations at the speed of the fastest square product, and
of the bytes at the speed of adding long vectors, both measured in the same process.

Examples:
  terrace bench kernels --batch 1x4096
  terrace bench kernels --shape yi-6b --batch 1x512 --composed")]
pub(crate) struct BenchKernelsArgs {
    /// The model's shape: small, yi-6b, yi-9b, or a folder with config.json
    #[arg(long, value_name = "SHAPE", default_value = "small")]
    pub(crate) shape: String,
    /// Sequences times their length
    #[arg(long, value_name = "BxT", default_value = "1x1024")]
    pub(crate) batch: BatchShape,
    /// Measure the tensor library's composition of the same operation, too, where it has one
    #[arg(long)]
    pub(crate) composed: bool,
    /// How often each is measured; the median is told
    #[arg(long, value_name = "N", default_value_t = 7)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
}
