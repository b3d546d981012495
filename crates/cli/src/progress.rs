//! Progress on long work: a bar where a person sees stderr, a line every few seconds where not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;

/// How long the line-by-line form is silent between two lines.
const PACE: Duration = Duration::from_secs(5);

/// The progress of one piece of work; shared between threads.
pub(crate) struct Progress<'a> {
    context: &'a Context,
    title: String,
    form: Form,
}

/// What the position counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
}

enum Form {
    Silent,
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
}

struct Lines {
    unit: Unit,
    pacer: Pacer,
    started: Instant,
    total: Option<u64>,
}

/// Decides when the next line is due.
#[derive(Clone, Copy, Debug)]
struct Pacer {
    pace: Duration,
    next: Duration,
}

impl<'a> Progress<'a> {
    /// Begins to show the progress of the work called `title`; without a total it is a count.
    pub(crate) fn start(
        context: &'a Context,
        title: impl Into<String>,
        unit: Unit,
        total: Option<u64>,
    ) -> Self {
        let title = title.into();
        let form = if context.is_quiet() || context.speech().is_held() {
            Form::Silent
        } else if context.draws_bars() {
            Form::Bar(bar(context, &title, unit, total))
        } else {
            let pacer = Pacer { pace: PACE, next: PACE };
            Form::Lines(Mutex::new(Lines { unit, pacer, started: Instant::now(), total }))
        };
        Self { context, title, form }
    }

    /// Says how much there is in all, now that it is known.
    pub(crate) fn set_total(&self, total: u64) {
        match &self.form {
            Form::Silent => {}
            Form::Bar(bar) => bar.set_length(total),
            Form::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).total = Some(total);
            }
        }
    }

    /// Shows how far the work is; the message is only made when it will be seen.
    pub(crate) fn update(&self, position: u64, message: impl FnOnce() -> String) {
        match &self.form {
            Form::Silent => {}
            Form::Bar(bar) => {
                bar.set_position(position);
                bar.set_message(message());
            }
            Form::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                let elapsed = lines.started.elapsed();
                if lines.pacer.is_due(elapsed) {
                    let place = place(lines.unit, position, lines.total);
                    self.context.say(&format!("{}: {place}, {}", self.title, message()));
                }
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

/// Work that failed leaves no bar behind.
impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Pacer {
    fn is_due(&mut self, elapsed: Duration) -> bool {
        let due = elapsed >= self.next;
        if due {
            self.next = elapsed + self.pace;
        }
        due
    }
}

fn place(unit: Unit, position: u64, total: Option<u64>) -> String {
    let shown = |amount| match unit {
        Unit::Bytes => terrace_base::format_bytes(amount),
        Unit::Count => terrace_base::format_count(amount),
    };
    match total {
        Some(total) if total > 0 => {
            let percent = position.min(total) as f64 / total as f64 * 100.0;
            format!("{} of {} ({percent:.0}%)", shown(position), shown(total))
        }
        _ => shown(position),
    }
}

fn bar(context: &Context, title: &str, unit: Unit, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    let (position, length) = match unit {
        Unit::Bytes => ("{binary_bytes}", "{binary_total_bytes}"),
        Unit::Count => ("{human_pos}", "{human_len}"),
    };
    let template = format!("{{prefix}} {{bar:24}} {position}/{length} {{msg}} {{eta}}");
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    let bar = context.bars().add(bar.with_style(style).with_prefix(title.to_owned()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_pace() {
        let mut pacer = Pacer { pace: PACE, next: PACE };
        let due: Vec<u64> =
            (0..21).filter(|second| pacer.is_due(Duration::from_secs(*second))).collect();
        assert_eq!(due, [5, 10, 15, 20]);
        // After a long silence one line is due, not one for each that was missed.
        assert!(pacer.is_due(Duration::from_secs(100)));
        assert!(!pacer.is_due(Duration::from_secs(104)));
    }

    #[test]
    fn places_are_shown_in_their_unit() {
        assert_eq!(place(Unit::Bytes, 1 << 20, Some(4 << 20)), "1 MiB of 4 MiB (25%)");
        assert_eq!(place(Unit::Count, 1_500, None), "1.5K");
        assert_eq!(place(Unit::Count, 7, Some(0)), "7");
        // More was read than announced: a file grew.
        assert_eq!(place(Unit::Count, 12, Some(10)), "12 of 10 (100%)");
    }
}
