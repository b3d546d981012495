//! Log lines to stderr, and the timeline of `--profile`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::context::Context;
use crate::error::CliError;
use crate::speech::Speech;

/// Sends log lines to stderr for the rest of the process, and spans to a file until what this gives is
/// dropped.
///
/// `TERRACE_LOG` decides what is logged; without it `-v` and `-q` do.
pub(crate) fn start(
    context: &Context,
    profile: Option<&Path>,
) -> Result<Option<FlushGuard>, CliError> {
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
    let (timeline, guard) = profile.map(timeline).transpose()?.unzip();
    // The process has one subscriber; a second start would be a bug in a test at most.
    let _ =
        tracing_subscriber::registry().with(lines.with_filter(filter)).with(timeline).try_init();
    Ok(guard)
}

/// The spans of our own crates, as a file.
fn timeline<S>(path: &Path) -> Result<(impl Layer<S>, FlushGuard), CliError>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let file = File::create(path).map_err(|error| {
        let help = "--profile names a file in a folder that can be written";
        CliError::unwritable(path, error).with_help(help)
    })?;
    let (layer, guard) =
        ChromeLayerBuilder::new().writer(BufWriter::new(file)).include_args(true).build();
    let own = Targets::new().with_target("terrace", LevelFilter::TRACE);
    Ok((layer.with_filter(own), guard))
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
