//! Simulated schedules as a figure: what each did to the loss, and what it paid.

use terrace_figure::{Color, Figure, Legend, Mark, Panel, Scale, Series, Style, palette};
use terrace_policy::batch::DecisionKind;
use terrace_simulate::{StagePoint, Walk};

use super::story::StoryAnswer;
use super::{Answer, Walks};

/// More points than this are no finer to the eye.
const MOST_POINTS: usize = 2000;

/// Loss by steps and by examples, and the batch, of every schedule; then the run of several stages.
pub(super) fn figure(answer: &Answer, walks: &Walks) -> Figure {
    let mut panels = Vec::new();
    if !walks.is_empty() {
        panels.push(losses(answer, walks, "optimizer steps", |(step, _)| step));
        panels.push(losses(answer, walks, "examples", |(_, examples)| examples));
        panels.push(batches(walks, "optimizer steps", |(step, _)| step));
        panels.push(batches(walks, "examples", |(_, examples)| examples));
    }
    if let Some(story) = &answer.story {
        panels.push(story_loss(story));
        panels.push(story_batch(story));
    }
    Figure::new(panels, 2)
}

type Place = fn((f64, f64)) -> f64;

/// Where each loss of a walk stands: steps and examples before it.
fn places(walk: &Walk) -> impl Iterator<Item = (f64, f64)> + '_ {
    let before = walk.batches.iter().scan(0.0, |examples, batch| {
        *examples += batch;
        Some(*examples)
    });
    (0..).map(f64::from).zip(std::iter::once(0.0).chain(before))
}

fn losses(answer: &Answer, walks: &Walks, x: &str, place: Place) -> Panel {
    let line = |(name, walk): &(&'static str, Walk)| {
        let points = places(walk).map(place).zip(walk.losses.iter().copied());
        Series::line(name, color(name), thinned(points.collect()))
    };
    let closed = |name: &'static str| {
        let rows = answer.results.iter().filter(|row| row.schedule == name);
        let points = rows.filter_map(|row| Some((place((row.steps?, row.examples?)), row.target)));
        Series::line(name, color(name), points.collect()).drawn(Style::Dotted)
    };
    let closed = ["oracle", "best-fixed"].map(closed);
    Panel {
        title: format!("Loss by {x}"),
        x: x.to_owned(),
        y: "expected loss".to_owned(),
        x_scale: Scale::Logarithmic,
        y_scale: Scale::Logarithmic,
        legend: Legend::LowerLeft,
        series: walks
            .iter()
            .map(line)
            .chain(closed.into_iter().filter(|series| !series.points.is_empty()))
            .collect(),
        ..Panel::default()
    }
}

fn batches(walks: &Walks, x: &str, place: Place) -> Panel {
    let line = |(name, walk): &(&'static str, Walk)| {
        let points = places(walk).map(place).zip(walk.batches.iter().copied());
        Series::line(name, color(name), thinned(points.collect())).drawn(Style::Steps)
    };
    Panel {
        title: format!("Batch by {x}"),
        x: x.to_owned(),
        y: "examples in a step".to_owned(),
        x_scale: Scale::Logarithmic,
        y_scale: Scale::Logarithmic,
        legend: Legend::UpperLeft,
        series: walks.iter().map(line).collect(),
        ..Panel::default()
    }
}

fn story_loss(story: &StoryAnswer) -> Panel {
    let [grown, still] = &story.walks;
    let line = |name: &'static str, points: &[StagePoint]| {
        let points = points.iter().map(|point| (point.examples as f64, point.loss)).collect();
        Series::line(name, color(name), thinned(points))
    };
    Panel {
        title: "Loss in the run of several stages".to_owned(),
        x: "examples".to_owned(),
        y: "expected loss by the stage's mixture".to_owned(),
        y_scale: Scale::Logarithmic,
        marks: marks(story),
        series: vec![line("no-growth", still), line("plateau", grown)],
        ..Panel::default()
    }
}

fn story_batch(story: &StoryAnswer) -> Panel {
    let steps = &story.walks[0];
    // The last step of a stage takes what is left, and says nothing of the batch.
    let whole = steps.iter().zip(steps.iter().skip(1)).filter(|(a, b)| a.stage == b.stage);
    let points = whole.map(|(point, _)| (point.examples as f64, point.batch as f64));
    let series = Series::line("plateau", color("plateau"), thinned(points.collect()));
    Panel {
        title: "Batch in the run of several stages".to_owned(),
        x: "examples".to_owned(),
        y: "examples in a step".to_owned(),
        y_scale: Scale::FromZero,
        legend: Legend::UpperLeft,
        marks: marks(story),
        series: vec![series.drawn(Style::Steps)],
        ..Panel::default()
    }
}

fn marks(story: &StoryAnswer) -> Vec<Mark> {
    let mark = |kind: DecisionKind, label: &'static str, color| {
        let decisions = story.decisions.iter().filter(move |decision| decision.kind == kind);
        decisions.map(move |decision| Mark {
            x: decision.tokens_seen.0 as f64,
            label: label.to_owned(),
            color,
        })
    };
    let growths = mark(DecisionKind::Grow, "growth", palette::GREEN);
    mark(DecisionKind::Stage, "stage begins", palette::GREY).chain(growths).collect()
}

fn color(schedule: &str) -> Color {
    match schedule {
        "oracle" => palette::BLACK,
        "best-fixed" => palette::GREY,
        "plateau" => palette::GREEN,
        "no-growth" => palette::VERMILION,
        "relative-drop" => palette::BLUE,
        "gns-sqrt" => palette::PURPLE,
        _ => palette::ORANGE,
    }
}

/// Every so-manyth point and the last one.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.last().copied();
    points.into_iter().step_by(every).chain(last).collect()
}
