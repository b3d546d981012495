//! Log lines to stderr, and the timeline of `--profile`.

use std::io::{self, Write};
use std::path::Path;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::context::Context;
use crate::error::CliError;
use crate::shares::Shares;
use crate::speech::Speech;
use crate::timeline::Timeline;

/// Sends log lines to stderr for the rest of the process, and spans to a file until what this gives is
/// finished. Shares of spans are taken when the context is asked for them.
///
/// `TERRACE_LOG` decides what is logged; without it `-v` and `-q` do.
pub(crate) fn start(
    context: &Context,
    profile: Option<&Path>,
) -> Result<Option<Timeline>, CliError> {
    let filter = match &context.environment.log_filter {
        Some(text) => EnvFilter::try_new(text).unwrap_or_else(|error| {
            context.say(&format!("warning: TERRACE_LOG is not understood and ignored: {error}"));
            EnvFilter::new(default_filter(context.verbosity))
        }),
        None => EnvFilter::new(default_filter(context.verbosity)),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(context.colour)
        .with_target(context.verbosity > 0)
        .with_writer(Lines(context.speech().clone()));
    let lines = match context.verbosity {
        0.. if context.draws_bars() => lines.without_time().boxed(),
        _ => lines.boxed(),
    };
    let (layer, timeline) = profile.map(Timeline::begin).transpose()?.unzip();
    let (listener, shares) = Shares::listener();
    let all = tracing_subscriber::registry().with(listener).with(lines.with_filter(filter));
    // The process has one subscriber; a second start would be a bug in a test at most.
    if all.with(layer).try_init().is_ok() {
        context.listen_with(shares);
    }
    Ok(timeline)
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
