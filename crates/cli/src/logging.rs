//! Log lines to stderr.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::context::Context;
use crate::speech::Speech;

/// Sends log lines to stderr for the rest of the process.
///
/// `TERRACE_LOG` decides what is logged; without it `-v` and `-q` do.
pub(crate) fn start(context: &Context) {
    let filter = match &context.environment.log_filter {
        Some(text) => EnvFilter::try_new(text).unwrap_or_else(|error| {
            context.say(&format!("warning: TERRACE_LOG is not understood and ignored: {error}"));
            EnvFilter::new(default_filter(context.verbosity))
        }),
        None => EnvFilter::new(default_filter(context.verbosity)),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(context.colour)
        .with_target(context.verbosity > 0)
        .with_writer(Lines(context.speech().clone()));
    // The process has one subscriber; a second start would be a bug in a test at most.
    let _ = match context.verbosity {
        0.. if context.draws_bars() => lines.without_time().try_init(),
        _ => lines.try_init(),
    };
}

fn default_filter(verbosity: i8) -> &'static str {
    match verbosity {
        ..0 => "error",
        0 => "warn,terrace=info",
        1 => "info,terrace=debug",
        _ => "debug,terrace=trace",
    }
}

/// Writes log lines where all text for people goes.
struct Lines(Speech);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { speech: &self.0, text: Vec::new() }
    }
}

/// One log line, written in one piece when it is complete.
struct Line<'a> {
    speech: &'a Speech,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.speech.line(&String::from_utf8_lossy(&self.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_filter_is_understood() {
        for verbosity in -2..4 {
            EnvFilter::try_new(default_filter(verbosity)).unwrap();
        }
    }
}
