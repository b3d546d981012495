//! The one place where the terminal is taken for the dashboard and given back.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use terrace_base::Tokens;
use terrace_config::RunPlan;
use terrace_train::StopFlag;

use super::changes::Change;
use super::keeper::{Keeper, Message};
use super::renderer::Renderer;
use crate::commands::training::signals;
use crate::context::Context;
use crate::diagnose;
use crate::error::CliError;
use crate::speech::Speech;
use crate::terminal::Terminal;

/// How long the renderer is waited for: on a terminal that has gone away it never ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// The terminal while a run goes on; shared between the training thread, the keeper of the
/// dashboard, and the signals.
///
/// What is said while the dashboard is there is held back and written to stderr when it closes.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Shared>);

struct Shared {
    speech: Speech,
    /// Whether text for people would be written over the dashboard.
    holds_text: bool,
    colour: bool,
    run_directory: PathBuf,
    open: Mutex<Option<Open>>,
}

struct Open {
    terminal: Terminal,
    keeper: Sender<Message>,
}

impl Screen {
    /// The terminal, not taken yet.
    pub(crate) fn new(context: &Context, plan: &RunPlan) -> Self {
        Self(Arc::new(Shared {
            speech: context.speech().clone(),
            holds_text: context.environment.stderr_is_terminal,
            colour: context.colour,
            run_directory: plan.run_directory.clone(),
            open: Mutex::default(),
        }))
    }

    /// Opens the dashboard; where that fails, a line says so and the run goes on without.
    pub(super) fn open(&self, tokens_seen: Tokens, total_tokens: u64, stop: &StopFlag) {
        let speech = &self.0.speech;
        let warn = |why: &dyn std::fmt::Display| {
            speech.line(&format!("warning: there is no dashboard: {why}"));
        };
        let terminal = match Terminal::found() {
            Ok(terminal) => terminal,
            Err(error) => return warn(&error),
        };
        if self.0.holds_text
            && let Err(error) = speech.hold()
        {
            return warn(&error);
        }
        let (keeper, messages) = channel();
        *self.lock() = Some(Open { terminal, keeper });
        let (screen, stop) = (self.clone(), stop.clone());
        let begin = move || match Renderer::start(tokens_seen, total_tokens) {
            Ok(renderer) => Keeper { renderer, messages, screen, stop }.run(),
            Err(_) => screen.killed(),
        };
        if let Err(error) = std::thread::Builder::new().name("dashboard".to_owned()).spawn(begin) {
            self.give_back(|_| {});
            warn(&error);
        }
    }

    /// Passes changes to the dashboard, if it is there.
    pub(super) fn show(&self, changes: Vec<Change>) {
        if let Some(open) = self.lock().as_ref() {
            for change in changes {
                // A keeper that has ended has given the terminal back, or is about to.
                let _ = open.keeper.send(Message::Show(change));
            }
        }
    }

    /// Closes the dashboard, and writes what was held back.
    pub(crate) fn close(&self) {
        self.give_back(|open| {
            let (done, is_done) = sync_channel(1);
            let asked = open.keeper.send(Message::Close(done)).is_ok();
            if asked && is_done.recv_timeout(PATIENCE).is_ok() {
                open.terminal.restore();
            } else {
                open.terminal.restore_and_leave();
            }
        });
    }

    /// The renderer has ended by itself: the run goes on without.
    pub(super) fn lost(&self) {
        self.give_back(|open| open.terminal.restore_and_leave());
        self.0.speech.line("warning: the dashboard has ended; the run goes on");
    }

    /// The user killed the program: says how to go on, and ends it.
    pub(super) fn killed(&self) {
        self.give_back(|open| open.terminal.restore());
        let run = self.0.run_directory.display();
        let error = CliError::environment("killed from the dashboard; nothing was saved for it")
            .with_help(format!("go on from the last checkpoint with: terrace resume {run}"));
        self.0.speech.line(&diagnose::render(&error, self.0.colour));
        signals::exit_at_once();
    }

    /// Only the first of several who want to gives the terminal back.
    fn give_back(&self, restore: impl FnOnce(Open)) {
        let open = self.lock().take();
        if let Some(open) = open {
            restore(open);
            self.0.speech.release();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
