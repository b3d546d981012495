//! SIGINT and SIGTERM: the first finishes the step and saves, the second exits at once.

use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use terrace_train::StopFlag;

/// What the shell is told when a second signal ends the process.
const INTERRUPTED: i32 = 130;

/// Arms both signals.
///
/// What a second signal interrupts is nothing that a resume would trust: checkpoints appear whole
/// or not at all.
pub(crate) fn arm(stop: &StopFlag) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down and passes this one by.
        flag::register_conditional_shutdown(signal, INTERRUPTED, stop.shared())?;
        flag::register(signal, Arc::clone(&stop.shared()))?;
    }
    Ok(())
}
