//! What every verb is handed: how to answer, how to speak, what the process was started with.

use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use serde::Serialize;

use crate::args::{ColorChoice, GlobalArgs};
use crate::environment::Environment;
use crate::shares::Shares;
use crate::speech::Speech;

/// The world of one invocation, as far as it is not an argument of the verb.
pub(crate) struct Context {
    /// Whether the answer goes to stdout as JSON.
    pub(crate) json: bool,
    /// Whether text may be coloured.
    pub(crate) colour: bool,
    /// How much is said: 0 is normal, negative is less, positive is more.
    pub(crate) verbosity: i8,
    /// What the process was started with.
    pub(crate) environment: Environment,
    speech: Speech,
    shares: OnceLock<Shares>,
}

impl Context {
    /// Puts together what the flags and the environment say.
    pub(crate) fn new(flags: &GlobalArgs, environment: Environment) -> Self {
        let colour = match flags.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                environment.stderr_is_terminal
                    && !environment.no_colour
                    && !environment.dumb_terminal
            }
        };
        Self {
            json: flags.json,
            colour,
            verbosity: flags.verbosity(),
            speech: Speech::default(),
            shares: OnceLock::new(),
            environment,
        }
    }

    /// Whether progress is drawn in place; without a terminal it is written line by line.
    pub(crate) fn draws_bars(&self) -> bool {
        self.environment.stderr_is_terminal && !self.environment.dumb_terminal
    }

    /// Whether only errors and answers are to be written.
    pub(crate) fn is_quiet(&self) -> bool {
        self.verbosity < 0
    }

    /// The bars on the terminal; text is written through them, so that they do not garble it.
    pub(crate) fn bars(&self) -> &MultiProgress {
        self.speech.bars()
    }

    /// The way of all text for people.
    pub(crate) fn speech(&self) -> &Speech {
        &self.speech
    }

    /// Remembers what listens to the spans of this process.
    pub(crate) fn listen_with(&self, shares: Shares) {
        let _ = self.shares.set(shares);
    }

    /// What listens to the spans of this process; without a log there is nothing.
    pub(crate) fn shares(&self) -> Option<&Shares> {
        self.shares.get()
    }

    /// Writes text for people to stderr, above the progress bars, and ends the line.
    pub(crate) fn say(&self, text: &str) {
        self.speech.line(text);
    }

    /// As [`say`](Self::say), for what may be left out when the user asked for quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet() {
            self.say(text);
        }
    }

    /// Gives the answer of a verb: with `--json` the data to stdout, else the text to stderr.
    pub(crate) fn answer(&self, data: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            self.data(data);
        } else {
            self.say(&text());
        }
    }

    /// Writes text that is data to stdout, as it is and at once.
    pub(crate) fn stream(&self, text: &str) {
        self.bars().suspend(|| {
            let mut stdout = io::stdout().lock();
            // A reader that has gone away is not an error of ours.
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        });
    }

    /// Writes data as one JSON object to stdout.
    pub(crate) fn data(&self, data: &impl Serialize) {
        self.bars().suspend(|| write_json(data));
    }
}

/// Writes a value as JSON to stdout.
///
/// A reader that has gone away (`terrace … | head`) is not an error of ours.
pub(crate) fn write_json(data: &impl Serialize) {
    let mut text = serde_json::to_string_pretty(data).expect("answers are plain data");
    text.push('\n');
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
