//! The forgetting map as tables.

use std::fmt::Write;

use super::{Answer, Cell, Moved, StageRow};
use crate::table::{Table, grouped};

/// The map, then what each stage gained and lost.
pub(super) fn render(answer: &Answer) -> String {
    let heading = ["", "metric"].map(str::to_owned).into_iter();
    let labels = answer.points.iter().map(|point| point.label.clone());
    let mut map = Table::new(heading.chain(labels));
    for row in &answer.rows {
        let cells = row.cells.iter().map(|of| of.as_ref().map_or_else(|| "-".to_owned(), cell));
        let metric =
            format!("{}{}", row.metric, if row.lower_is_better { ", lower is better" } else { "" });
        map.row([row.name.clone(), metric].into_iter().chain(cells));
    }
    let mut text = format!(
        "forgetting map of {}: in brackets the gain since the first point in standard errors, below \
         zero what was forgotten; within 2 of zero it may be chance\n{}",
        answer.name,
        map.render()
    );
    for stage in &answer.stages {
        let tokens = grouped(stage.to_tokens - stage.from_tokens);
        let _ = write!(
            text,
            "\n{}: from {} to {}, {tokens} tokens\n{}",
            stage.stage,
            stage.from,
            stage.to,
            changes(&stage.changes).render()
        );
    }
    text
}

fn cell(cell: &Cell) -> String {
    let value = format!("{:.4}", cell.value);
    let in_errors = cell.since_first.map(|moved| match moved.gain_in_errors {
        Some(errors) => format!("{errors:+.1}"),
        None => format!("{:+.4}", moved.difference),
    });
    in_errors.map_or_else(|| value.clone(), |errors| format!("{value} ({errors})"))
}

fn changes(rows: &[StageRow]) -> Table {
    let heading =
        ["", "gain", "±", "in errors", "items gained", "lost", "its tokens", "gain per 1B of them"];
    let mut table = Table::new(heading);
    for row in rows {
        let Moved { standard_error, gain_in_errors, flips, .. } = row.moved;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            format!("{} {}", row.name, row.metric),
            format!("{:+.4}", row.gain),
            or_dash(standard_error.map(|error| format!("{error:.4}"))),
            or_dash(gain_in_errors.map(|errors| format!("{errors:+.1}"))),
            or_dash(flips.map(|flips| grouped(flips.gained))),
            or_dash(flips.map(|flips| grouped(flips.lost))),
            or_dash(row.tokens.map(grouped)),
            or_dash(row.gain_per_billion_tokens.map(|gain| format!("{gain:+.4}"))),
        ]);
    }
    table
}
