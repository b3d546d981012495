//! Showing how far a preparation is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use terrace_base::format_count;
use terrace_prepare::{Phase, Progress, ProgressObserver};

use crate::context::Context;
use crate::progress::{self, Unit};

/// Shows each phase of the preparation of one source as a bar of its own.
pub(super) struct Watch<'a> {
    context: &'a Context,
    source: &'a str,
    current: Mutex<Option<Current<'a>>>,
}

struct Current<'a> {
    phase: Phase,
    held_out: bool,
    started: Instant,
    bar: progress::Progress<'a>,
}

impl<'a> Watch<'a> {
    /// Nothing is shown before the first news.
    pub(super) fn new(context: &'a Context, source: &'a str) -> Self {
        Self { context, source, current: Mutex::new(None) }
    }

    fn begin(&self, progress: &Progress) -> Current<'a> {
        let title = title(self.source, progress.phase, progress.held_out);
        let total = Some(progress.bytes_total).filter(|total| *total > 0);
        Current {
            phase: progress.phase,
            held_out: progress.held_out,
            started: Instant::now(),
            bar: progress::Progress::start(self.context, title, Unit::Bytes, total),
        }
    }
}

impl ProgressObserver for Watch<'_> {
    fn progress(&self, progress: &Progress) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |shown: &Current<'_>| {
            shown.phase == progress.phase && shown.held_out == progress.held_out
        };
        if !current.as_ref().is_some_and(same) {
            // The old bar goes before the new one comes.
            *current = None;
            *current = Some(self.begin(progress));
        }
        if let Some(current) = current.as_ref() {
            if progress.bytes_total > 0 {
                current.bar.set_total(progress.bytes_total);
            }
            let elapsed = current.started.elapsed();
            current.bar.update(progress.bytes_done, || message(progress, elapsed));
        }
    }
}

fn title(source: &str, phase: Phase, held_out: bool) -> String {
    let verb = match phase {
        Phase::Reading => "reading",
        Phase::Writing => "writing",
    };
    let part = if held_out { " held out" } else { "" };
    format!("{source}{part}: {verb}")
}

fn message(progress: &Progress, elapsed: Duration) -> String {
    let rate = |count: u64| {
        let per_second = count as f64 / elapsed.as_secs_f64().max(1e-3);
        format_count(per_second.round() as u64)
    };
    format!(
        "{} documents, {}/s, {} tokens/s",
        format_count(progress.documents),
        rate(progress.documents),
        rate(progress.tokens)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_of_the_phase() {
        let progress = Progress {
            phase: Phase::Reading,
            held_out: true,
            bytes_done: 0,
            bytes_total: 0,
            documents: 3_000,
            tokens: 4_000_000,
        };
        let text = message(&progress, Duration::from_secs(2));
        assert_eq!(text, "3K documents, 1.5K/s, 2M tokens/s");
        assert_eq!(title("english", Phase::Writing, true), "english held out: writing");
    }
}
