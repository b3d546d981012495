//! `terrace bench plateau`: false alarms and delay of plateau tests, over simulated loss curves.

mod picture;

use std::sync::atomic::{AtomicU64, Ordering};

use terrace_base::Seed;
use terrace_simulate::alarms::{AlarmRow, AlarmStudy, NoiseClass, study};

use crate::args::BenchPlateauArgs;
use crate::context::Context;
use crate::drawing;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::{Progress, Unit};
use crate::table::{Table, grouped};

/// Curves of a class beyond which the study would not end in a sitting.
const MOST_CURVES: u64 = 10_000_000;

/// Runs the study and shows it.
pub(super) fn run(args: &BenchPlateauArgs, context: &Context) -> Result<ExitCode, CliError> {
    if !(1..=MOST_CURVES).contains(&args.curves) {
        let message = format!("--curves: found {}, expected 1 to {MOST_CURVES}", args.curves);
        return Err(CliError::input(message));
    }
    if !(args.alpha > 0.0 && args.alpha < 0.5) {
        let message =
            format!("--alpha: found {}, expected a chance above 0, below 0.5", args.alpha);
        return Err(CliError::input(message));
    }
    drawing::check(args.picture.as_deref())?;
    let progress = Progress::start(context, "curves", Unit::Count, Some(2 * args.curves));
    let done = AtomicU64::new(0);
    let found = study(Seed(args.seed), args.curves, args.alpha, |count| {
        let position = done.fetch_add(count, Ordering::Relaxed) + count;
        progress.update(position, String::new);
    });
    progress.finish();
    let code = drawing::write(args.picture.as_deref(), context, || picture::figure(&found));
    context.answer(&found, || text(&found));
    Ok(code)
}

fn text(found: &AlarmStudy) -> String {
    let mut text = format!(
        "{} curves of each class, stages of {} steps, flat below {:.0e} nats per step, alpha {}\n",
        grouped(found.curves),
        grouped(found.stage_steps),
        found.delta_nats_per_step,
        found.alpha
    );
    let mut table = Table::new([
        "rule",
        "noise",
        "sd",
        "grew while falling",
        "95% bound",
        "power",
        "delay in steps",
        "in windows used",
        "in planned windows",
    ]);
    found.rows.iter().for_each(|row| table.row(cells(row)));
    text.push_str(&table.render());
    text
}

fn cells(row: &AlarmRow) -> [String; 9] {
    let dash = || "-".to_owned();
    let two = |value: Option<f64>| value.map_or_else(dash, |value| format!("{value:.2}"));
    let noise = match row.noise {
        NoiseClass::White => "white",
        NoiseClass::Autoregressive => "AR(1)",
    };
    let delay =
        row.delay_steps.map(|[low, median, high]| format!("{median:.0} ({low:.0} to {high:.0})"));
    [
        row.detector.clone(),
        noise.to_owned(),
        row.noise_sd.map_or_else(|| "all".to_owned(), |sd| sd.to_string()),
        format!("{:.4}", row.false_rate),
        format!("{:.4}", row.false_rate_upper),
        format!("{:.3}", row.power),
        delay.unwrap_or_else(dash),
        two(row.delay_windows),
        two(row.delay_planned_windows),
    ]
}
