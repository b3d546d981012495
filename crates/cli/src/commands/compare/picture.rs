//! The training losses of runs as a figure: one panel for each source, one line for each run.

use std::collections::BTreeSet;

use terrace_figure::{Figure, Panel, Series, palette};

use super::{Answer, Stretch, StretchLoss};

/// The losses; `labels` has a name for each run.
pub(super) fn figure(answer: &Answer, labels: &[String]) -> Figure {
    let runs = answer.training.iter().flat_map(|stretch| &stretch.runs);
    let sources: BTreeSet<&String> = runs.flat_map(|run| run.sources.keys()).collect();
    let mut panels = vec![panel("all sources", answer, labels, |loss| loss.nats)];
    panels.extend(
        sources
            .into_iter()
            .map(|source| panel(source, answer, labels, |loss| loss.sources.get(source).copied())),
    );
    Figure { panel_size: (900, 260), ..Figure::new(panels, 1) }
}

fn panel(
    title: &str,
    answer: &Answer,
    labels: &[String],
    loss: impl Fn(&StretchLoss) -> Option<f64>,
) -> Panel {
    let line = |(run, label): (usize, &String)| {
        let point = |stretch: &Stretch| {
            let middle = f64::midpoint(stretch.from_tokens as f64, stretch.to_tokens as f64);
            Some((middle, loss(&stretch.runs[run])?))
        };
        let points = answer.training.iter().filter_map(point).collect();
        Series::line(label, palette::nth(run), points)
    };
    Panel {
        title: title.to_owned(),
        x: "tokens".to_owned(),
        y: "nats per target".to_owned(),
        series: labels.iter().enumerate().map(line).collect(),
        ..Panel::default()
    }
}
