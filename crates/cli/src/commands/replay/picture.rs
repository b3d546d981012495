//! A replay as a figure: the loss that was recorded, and the batch of either controller.

use terrace_figure::{Figure, Mark, Panel, Scale, Series, Style, palette};
use terrace_policy::batch::{Decision, DecisionKind};
use terrace_train::{BatchGrowth, Replay, StepRecord};

/// Losses are drawn as means of about so many stretches.
const STRETCHES: usize = 200;

/// The loss with marks where the batch grew, above the batch; a sequence has so many tokens.
pub(super) fn figure(found: &Replay, steps: &[StepRecord], length: u64) -> Figure {
    let mark = |label: &'static str, color| {
        move |growth: &BatchGrowth| Mark {
            x: growth.tokens_seen.0 as f64,
            label: label.to_owned(),
            color,
        }
    };
    let recorded = found.recorded_growths.iter().map(mark("the run grew", palette::VERMILION));
    let replayed = found.growths.iter().map(mark("replayed growth", palette::GREEN));
    let loss = Panel {
        title: "Training loss on record".to_owned(),
        x: "tokens".to_owned(),
        y: "nats per target".to_owned(),
        marks: recorded.chain(replayed).collect(),
        series: vec![Series::line("loss", palette::BLUE, losses(steps))],
        ..Panel::default()
    };
    let first = steps.first().map_or(0, |step| step.batch_tokens.0);
    let end = found.tokens_seen.0;
    let series = vec![
        Series::line("the run", palette::VERMILION, batch(first, &found.recorded_growths, end))
            .drawn(Style::Steps),
        Series::line("replayed", palette::GREEN, decided(&found.decisions, length, end))
            .drawn(Style::Steps),
    ];
    let batch = Panel {
        title: "Batch".to_owned(),
        x: "tokens".to_owned(),
        y: "tokens".to_owned(),
        y_scale: Scale::FromZero,
        legend: terrace_figure::Legend::UpperLeft,
        series,
        ..Panel::default()
    };
    Figure { panel_size: (900, 300), ..Figure::new(vec![loss, batch], 1) }
}

/// The loss over stretches of steps, at their last tokens.
fn losses(steps: &[StepRecord]) -> Vec<(f64, f64)> {
    let stretch = steps.len().div_ceil(STRETCHES).max(1);
    let mean = |steps: &[StepRecord]| {
        let nats: f64 = steps.iter().map(|step| step.nats * step.target_tokens as f64).sum();
        let targets: u64 = steps.iter().map(|step| step.target_tokens).sum();
        (steps[steps.len() - 1].tokens_seen.0 as f64, nats / targets as f64)
    };
    steps.chunks(stretch).map(mean).collect()
}

/// The batch that the decisions led to.
fn decided(decisions: &[Decision], length: u64, end: u64) -> Vec<(f64, f64)> {
    let set = [DecisionKind::Stage, DecisionKind::Grow];
    let decisions = decisions.iter().filter(|decision| set.contains(&decision.kind));
    let mut points: Vec<(f64, f64)> =
        decisions.map(|d| (d.tokens_seen.0 as f64, (d.to_sequences * length) as f64)).collect();
    points.extend(points.last().copied().map(|(_, last)| (end as f64, last)));
    points
}

fn batch(first: u64, growths: &[BatchGrowth], end: u64) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, first as f64)];
    points.extend(growths.iter().map(|g| (g.tokens_seen.0 as f64, g.to_tokens.0 as f64)));
    let last = points[points.len() - 1].1;
    points.push((end as f64, last));
    points
}
