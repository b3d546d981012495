//! How often plateau tests err and how late they are, by the noise of a step.

use std::collections::BTreeSet;

use terrace_figure::{Figure, Legend, Panel, Scale, Series, Style, palette};
use terrace_simulate::alarms::{AlarmRow, AlarmStudy, NoiseClass};

/// False growths and delays, one line of panels for each class of noise.
pub(super) fn figure(found: &AlarmStudy) -> Figure {
    let classes = [(NoiseClass::White, "white noise"), (NoiseClass::Autoregressive, "AR(1) noise")];
    let panels = classes.into_iter().flat_map(|(class, name)| {
        let rows: Vec<&AlarmRow> = found.rows.iter().filter(|row| row.noise == class).collect();
        [errors(&rows, name, found.alpha), delays(&rows, name)]
    });
    Figure::new(panels.collect(), 2)
}

fn errors(rows: &[&AlarmRow], name: &str, alpha: f64) -> Panel {
    let mut series = curves(rows, |row| Some(row.false_rate));
    let sds = rows.iter().filter_map(|row| row.noise_sd);
    let ends = sds.fold((f64::INFINITY, 0.0_f64), |(low, high), sd| (low.min(sd), high.max(sd)));
    let allowed = vec![(ends.0, alpha), (ends.1, alpha)];
    series.push(Series::line("alpha", palette::GREY, allowed));
    panel(format!("Grew while the loss still fell, {name}"), "share of curves", series)
}

fn delays(rows: &[&AlarmRow], name: &str) -> Panel {
    let series = curves(rows, |row| row.delay_steps.map(|[_, median, _]| median));
    Panel {
        legend: Legend::UpperLeft,
        ..panel(format!("Median delay behind the plateau, {name}"), "steps", series)
    }
}

fn panel(title: String, y: &str, series: Vec<Series>) -> Panel {
    Panel {
        title,
        x: "standard deviation of a step's loss, nats".to_owned(),
        y: y.to_owned(),
        x_scale: Scale::FromZero,
        y_scale: Scale::FromZero,
        legend: Legend::MiddleRight,
        series,
        ..Panel::default()
    }
}

/// One curve for each rule, over the standard deviations.
fn curves(rows: &[&AlarmRow], value: impl Fn(&AlarmRow) -> Option<f64>) -> Vec<Series> {
    let mut seen = BTreeSet::new();
    let rules = rows.iter().map(|row| &row.detector).filter(|rule| seen.insert(*rule));
    let rules: Vec<&String> = rules.collect();
    let curve = |(place, rule): (usize, &&String)| {
        let own = rows.iter().filter(|row| row.detector == **rule);
        let points = own.filter_map(|row| Some((row.noise_sd?, value(row)?)));
        Series::line(rule, palette::nth(place), points.collect()).drawn(Style::Dotted)
    };
    rules.iter().enumerate().map(curve).filter(|series| !series.points.is_empty()).collect()
}
