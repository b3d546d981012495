//! How the command ends.

use std::process;

use serde::Serialize;

/// What the command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExitCode {
    /// It did what was asked.
    Done = 0,
    /// It did what was asked, and the answer is no: something is damaged or below its bar.
    GateFailed = 1,
    /// What was asked makes no sense as it stands.
    BadInput = 2,
    /// The machine or its disks did not play along.
    Environment = 3,
    /// The device failed, or is not there.
    Device = 4,
}

impl ExitCode {
    /// The number that the shell sees.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(exit: ExitCode) -> Self {
        Self::from(exit.number())
    }
}
