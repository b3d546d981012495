//! The training losses of runs as a figure: one panel for each source, one line for each run.

use std::collections::BTreeSet;
use std::fmt::Write;

use terrace_base::format_count;

use super::{Answer, Stretch};

const WIDTH: f64 = 900.0;
const PANEL: f64 = 220.0;
const HEADING: f64 = 40.0;
/// What is left free around a panel for its labels: left, top, right, bottom.
const MARGINS: [f64; 4] = [70.0, 30.0, 20.0, 30.0];

// Okabe and Ito's palette, told apart by colour-blind readers too.
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Draws the losses; `labels` has a name for each run.
pub(super) fn svg(answer: &Answer, labels: &[String]) -> String {
    let sources: BTreeSet<&String> = answer
        .training
        .iter()
        .flat_map(|stretch| &stretch.runs)
        .flat_map(|run| run.sources.keys())
        .collect();
    let panels = 1 + sources.len();
    let height = HEADING + PANEL * panels as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    legend(&mut text, labels);
    panel(&mut text, 0, "all sources", answer, &|run, stretch| stretch.runs[run].nats);
    for (place, source) in sources.into_iter().enumerate() {
        panel(&mut text, place + 1, source, answer, &|run, stretch| {
            stretch.runs[run].sources.get(source).copied()
        });
    }
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String, labels: &[String]) {
    let mut x = MARGINS[0];
    for (run, label) in labels.iter().enumerate() {
        let colour = COLOURS[run % COLOURS.len()];
        let name = escaped(label);
        put(
            text,
            format_args!(
                "<line x1=\"{x}\" y1=\"20\" x2=\"{}\" y2=\"20\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"24\">{name}</text>",
                x + 24.0,
                x + 30.0
            ),
        );
        x += 60.0 + 7.0 * label.chars().count() as f64;
    }
}

type Loss<'a> = &'a dyn Fn(usize, &Stretch) -> Option<f64>;

fn panel(text: &mut String, place: usize, title: &str, answer: &Answer, loss: Loss<'_>) {
    let [left, top, right, bottom] = MARGINS;
    let (x0, x1) = (left, WIDTH - right);
    let y1 = HEADING + PANEL * place as f64 + top;
    let y0 = y1 + PANEL - top - bottom;
    let runs = 0..answer.runs.len();
    let stretches = &answer.training;
    let losses = runs.clone().flat_map(|run| stretches.iter().filter_map(move |s| loss(run, s)));
    let (low, high) = losses.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), nats| {
        (low.min(nats), high.max(nats))
    });
    let (Some(first), Some(last), true) = (stretches.first(), stretches.last(), low <= high) else {
        return;
    };
    // Losses that are all alike lie in the middle.
    let span = if high > low { high - low } else { 1.0 };
    let middle = f64::midpoint(low, high);
    let y = |nats: f64| f64::midpoint(y0, y1) - (nats - middle) / span * (y0 - y1);
    let (from, to) = (first.from_tokens as f64, last.to_tokens as f64);
    let x = |tokens: f64| x0 + (tokens - from) / (to - from) * (x1 - x0);
    put(
        text,
        format_args!(
            "<text x=\"{x0}\" y=\"{}\" font-weight=\"bold\">{}</text>\
         <path d=\"M{x0} {y1}V{y0}H{x1}\" fill=\"none\" stroke=\"#787878\"/>",
            y1 - 8.0,
            escaped(title)
        ),
    );
    for nats in [low, middle, high] {
        put(
            text,
            format_args!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{nats:.4}</text>",
                x0 - 6.0,
                y(nats) + 4.0
            ),
        );
    }
    for (tokens, anchor) in [(first.from_tokens, "start"), (last.to_tokens, "end")] {
        put(
            text,
            format_args!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{} tokens</text>",
                x(tokens as f64),
                y0 + 18.0,
                format_count(tokens)
            ),
        );
    }
    for run in runs {
        let points = stretches.iter().filter_map(|stretch| {
            let place = f64::midpoint(stretch.from_tokens as f64, stretch.to_tokens as f64);
            Some(format!("{:.1},{:.1}", x(place), y(loss(run, stretch)?)))
        });
        let points: Vec<String> = points.collect();
        put(
            text,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
                points.join(" "),
                COLOURS[run % COLOURS.len()]
            ),
        );
    }
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes any text");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
