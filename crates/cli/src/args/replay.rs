//! The arguments of `terrace replay`.

use std::path::PathBuf;

use clap::Args;

use super::Overrides;

/// The arguments of `terrace replay`.
#[derive(Args, Debug)]
#[command(after_help = "\
The losses stay as they were recorded. So the first growth is where this controller would have grown;
each later one is where it would have grown had the loss gone on as recorded. The run's own controller
decides what it decided, unless the run was a branch, was steered, or went back for a spike: then the
controller is told all along what the run file says now.

FILE holds a [batch] section as a run file does, which replaces the run's as a whole; --set changes
single values.

Examples:
  terrace replay runs/quickstart
  terrace replay runs/quickstart --controller patient.toml
  terrace replay runs/quickstart --set batch.plateau.alpha=0.2 --json")]
pub(crate) struct ReplayArgs {
    /// The folder of the run whose losses are read
    pub(crate) run: PathBuf,
    /// The controller (TOML, only a [batch] section); if not given, the run's own
    #[arg(long, value_name = "FILE")]
    pub(crate) controller: Option<PathBuf>,
    /// Also draw loss and batch: STEM.svg and STEM.png
    #[arg(long, value_name = "STEM")]
    pub(crate) picture: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}
