//! The arguments of `terrace simulate` and `terrace bench plateau`.

use std::path::PathBuf;

use clap::Args;

use super::Overrides;

/// The arguments of `terrace simulate`.
#[derive(Args, Debug)]
#[command(after_help = "\
The controller is the one that trains, on noisy losses; the others see the expected loss or the exact
noise scale, and `oracle` and `best-fixed` are closed forms. Steps and examples of the controller are
medians over seeds.

Examples:
  terrace simulate configs/simulate/acceptance.toml
  terrace simulate configs/simulate/yi.toml --set plateau.alpha=0.2 --json")]
pub(crate) struct SimulateArgs {
    /// The model and the schedules (TOML)
    pub(crate) file: PathBuf,
    /// Also draw losses and batches: STEM.svg and STEM.png
    #[arg(long, value_name = "STEM")]
    pub(crate) picture: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// The arguments of `terrace bench plateau`.
#[derive(Args, Debug)]
#[command(after_help = "\
A quarter of the curves falls for ever, 5 % faster than the threshold; the others become flat. A quarter
has spikes, and a quarter is a second stage behind a jump.

Example:
  terrace bench plateau --curves 5000 --json")]
pub(crate) struct BenchPlateauArgs {
    /// Curves of each class of noise
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) curves: u64,
    /// The chance of a growth in error that the controller is allowed, per stage
    #[arg(long, value_name = "X", default_value_t = 0.05)]
    pub(crate) alpha: f64,
    /// All noise comes from it
    #[arg(long, value_name = "N", default_value_t = 17)]
    pub(crate) seed: u64,
    /// Also draw it: STEM.svg and STEM.png
    #[arg(long, value_name = "STEM")]
    pub(crate) picture: Option<PathBuf>,
}
