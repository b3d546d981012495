//! SIGINT and SIGTERM: the first finishes the step and saves, the second exits at once.

use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use terrace_train::StopFlag;

use super::dashboard::Screen;

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

/// Arms both signals for a run with a dashboard, whose terminal is given back before the process
/// ends; a signal handler could not do that, a thread can.
///
/// SIGHUP, too, finishes the step and saves: with its terminal the run would lose whom it is shown
/// to. It never counts as the second signal, since the system and the shell both send one.
pub(crate) fn arm_for(screen: &Screen, stop: &StopFlag) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (screen, stop) = (screen.clone(), stop.clone());
    let watch = move || {
        for signal in signals.forever() {
            if signal != SIGHUP && stop.requested() {
                screen.close();
                exit_at_once();
            }
            stop.request();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}

/// Ends the process now, whatever its threads do.
pub(crate) fn exit_at_once() -> ! {
    signal_hook::low_level::exit(INTERRUPTED)
}
