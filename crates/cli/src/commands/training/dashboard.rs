//! `--dashboard`: the run on burn-train's terminal dashboard.
//!
//! Four parts, none of which can hurt the run: `changes` decides what is shown (pure), `renderer`
//! speaks to burn-train, `keeper` is the thread that owns the renderer, and `screen` is the one
//! place where the terminal is taken and given back. The training thread only sends messages: a
//! renderer that panics, hangs or is killed does so in threads of its own.

mod changes;
mod keeper;
mod renderer;
mod screen;

use terrace_config::RunPlan;
use terrace_train::{Event, StopFlag};

use self::changes::Changes;
pub(crate) use self::screen::Screen;
use crate::context::Context;

/// The dashboard of one run.
pub(crate) struct Dashboard {
    changes: Changes,
    screen: Screen,
    stop: StopFlag,
    opened: bool,
}

impl Dashboard {
    /// A dashboard that opens when training begins: until then errors are shown as always.
    pub(crate) fn new(plan: &RunPlan, screen: Screen, stop: &StopFlag) -> Self {
        Self { changes: Changes::new(plan), screen, stop: stop.clone(), opened: false }
    }

    /// Shows an event, unless the dashboard has gone.
    pub(crate) fn event(&mut self, event: &Event<'_>) {
        if let Event::StageStarted { tokens_seen, .. } = event
            && !self.opened
        {
            self.opened = true;
            self.screen.open(*tokens_seen, self.changes.total_tokens(), &self.stop);
            self.screen.show(self.changes.opening());
        }
        self.screen.show(self.changes.of(event));
    }

    /// Gives the terminal back.
    pub(crate) fn close(&self) {
        self.screen.close();
    }
}

/// A run that panics gives the terminal back too.
impl Drop for Dashboard {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why there can be no dashboard; none where there can.
pub(crate) fn obstacle(context: &Context) -> Option<&'static str> {
    let environment = &context.environment;
    if context.json {
        Some("it draws on stdout, where --json puts its answer")
    } else if !environment.stdout_is_terminal || !environment.stdin_is_terminal {
        Some("stdin and stdout are not both a terminal")
    } else if environment.dumb_terminal {
        Some("TERM is `dumb`: this terminal cannot be drawn on")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::GlobalArgs;
    use crate::environment::Environment;

    fn context(json: bool, change: impl FnOnce(&mut Environment)) -> Context {
        let mut environment = Environment {
            stdin_is_terminal: true,
            stdout_is_terminal: true,
            ..Environment::default()
        };
        change(&mut environment);
        let mut context = Context::new(&GlobalArgs::default(), environment);
        context.json = json;
        context
    }

    #[test]
    fn a_dashboard_needs_a_whole_terminal_for_itself() {
        assert_eq!(obstacle(&context(false, |_| {})), None);
        // Where the log goes does not matter.
        assert_eq!(obstacle(&context(false, |e| e.stderr_is_terminal = false)), None);
        assert!(obstacle(&context(true, |_| {})).unwrap().contains("--json"));
        assert!(obstacle(&context(false, |e| e.stdin_is_terminal = false)).is_some());
        assert!(obstacle(&context(false, |e| e.stdout_is_terminal = false)).is_some());
        assert!(obstacle(&context(false, |e| e.dumb_terminal = true)).is_some());
    }
}
