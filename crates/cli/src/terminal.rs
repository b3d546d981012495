//! The terminal of this process: its modes, and how to give it back as it was.

use std::io;

use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Turns off the reports of the mouse and shows the cursor.
const PLAIN: &[u8] = b"\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?25h";

/// Goes back from the alternate screen, and to where the cursor was.
const MAIN_SCREEN: &[u8] = b"\x1b[?1049l";

/// A terminal as it was found.
pub(crate) struct Terminal {
    found: Termios,
}

impl Terminal {
    /// Remembers how the terminal on stdin is set.
    ///
    /// # Errors
    ///
    /// Stdin is not a terminal.
    pub(crate) fn found() -> io::Result<Self> {
        Ok(Self { found: tcgetattr(stdin())? })
    }

    /// Sets the terminal as it was found; for a screen that its owner has left already.
    pub(crate) fn restore(&self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.found);
        write(PLAIN);
    }

    /// As [`restore`](Self::restore), and leaves the alternate screen, whose owner may not have.
    ///
    /// Only then: on the main screen it would move the cursor over what was written since.
    pub(crate) fn restore_and_leave(&self) {
        write(MAIN_SCREEN);
        self.restore();
    }
}

/// Not through `std::io::stdout`: whoever drew last may hold its lock for ever.
fn write(sequence: &[u8]) {
    let _ = rustix::io::write(stdout(), sequence);
}

/// Lets Ctrl-C be a signal although the terminal is raw; false while it is not raw yet.
///
/// Ctrl-Z and Ctrl-\ stay keys: they would leave a raw terminal behind.
pub(crate) fn let_interrupts_through() -> bool {
    let Ok(mut modes) = tcgetattr(stdin()) else { return true };
    if modes.local_modes.intersects(LocalModes::ICANON | LocalModes::ISIG) {
        return false;
    }
    modes.local_modes.insert(LocalModes::ISIG);
    for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
        // No key at all, in POSIX's words.
        modes.special_codes[key] = 0;
    }
    let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
    true
}
