//! The thread that owns the renderer, passes changes on to it, and notices how it ends.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use terrace_train::StopFlag;

use super::changes::Change;
use super::renderer::{Killed, Renderer};
use super::screen::Screen;
use crate::terminal;

/// How often the keeper looks what the user wants, and whether the renderer lives.
const TICK: Duration = Duration::from_millis(50);

/// How long a renderer that panics is given to put the terminal in order.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the keeper is told.
pub(super) enum Message {
    /// Something is to be shown.
    Show(Change),
    /// The terminal is to be given back; answered when it was.
    Close(SyncSender<()>),
}

/// Owns a renderer until it is closed, killed or gone.
pub(super) struct Keeper {
    pub(super) renderer: Renderer,
    pub(super) messages: Receiver<Message>,
    pub(super) screen: Screen,
    pub(super) stop: StopFlag,
}

enum End {
    Closed(SyncSender<()>),
    Gone,
}

impl Keeper {
    /// Keeps the dashboard until its end.
    pub(super) fn run(mut self) {
        match self.keep() {
            Ok(End::Closed(done)) => {
                self.renderer.close();
                // Whoever asked may have lost patience.
                let _ = done.try_send(());
            }
            Ok(End::Gone) => self.screen.lost(),
            Err(Killed) => self.killed(),
        }
    }

    fn keep(&mut self) -> Result<End, Killed> {
        let mut interrupts = false;
        let mut looked = Instant::now();
        let mut stopping = false;
        loop {
            match self.messages.recv_timeout(TICK) {
                Ok(Message::Show(change)) => self.renderer.show(change)?,
                Ok(Message::Close(done)) => return Ok(End::Closed(done)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(End::Gone),
            }
            if looked.elapsed() < TICK {
                continue;
            }
            looked = Instant::now();
            // This fails after a kill; else a renderer that is gone has gone by itself.
            let is_gone = self.renderer.is_gone();
            self.renderer.beat()?;
            if is_gone {
                return Ok(End::Gone);
            }
            // The renderer makes the terminal raw when its thread gets to it.
            interrupts = interrupts || terminal::let_interrupts_through();
            if self.renderer.wants_to_quit() {
                self.stop.request();
            }
            if self.stop.requested() && !stopping {
                stopping = true;
                let heading = "ends after this step".to_owned();
                self.renderer.show(Change::Heading(heading))?;
            }
        }
    }

    /// Ends the process at once, as a second Ctrl-C does: what was saved is valid, what was not is
    /// not.
    fn killed(self) {
        let begin = Instant::now();
        while !self.renderer.is_gone() && begin.elapsed() < LAST_WORDS {
            std::thread::sleep(TICK / 10);
        }
        // To drop it would panic once more.
        std::mem::forget(self.renderer);
        self.screen.killed();
    }
}
