//! The forgetting map as a picture: a line for each source and task, a column for each point.

use terrace_figure::{Figure, HeatCell, HeatMap, Panel};

use super::{Answer, Cell, Row};

/// So many standard errors have the full colour: what is beyond is no chance.
const FULL: f64 = 6.0;

/// The colour is the gain since the first point in standard errors; in the cells stand the value and
/// the difference.
pub(super) fn figure(answer: &Answer) -> Figure {
    let name = |row: &Row| format!("{} ({})", row.name, row.metric);
    let map = HeatMap {
        columns: answer.points.iter().map(|point| point.label.clone()).collect(),
        rows: answer.rows.iter().map(name).collect(),
        cells: answer.rows.iter().map(cells).collect(),
        limit: FULL,
        meaning: [
            format!("forgotten, {FULL} standard errors"),
            format!("gained, {FULL} standard errors"),
        ],
    };
    let title = format!("{}: what was gained and forgotten since {}", answer.name, first(answer));
    let (width, height) = map.size();
    // Narrower, the title and the legend have no room.
    let panel_size = (width.max(760), height);
    let panel = Panel { title, map: Some(map), ..Panel::default() };
    Figure { panel_size, ..Figure::new(vec![panel], 1) }
}

fn first(answer: &Answer) -> &str {
    answer.points.first().map_or("the first point", |point| point.label.as_str())
}

fn cells(row: &Row) -> Vec<Option<HeatCell>> {
    row.cells.iter().map(|of| of.as_ref().map(cell)).collect()
}

fn cell(cell: &Cell) -> HeatCell {
    let mut lines = vec![format!("{:.4}", cell.value)];
    lines.extend(cell.since_first.map(|moved| format!("{:+.4}", moved.difference)));
    let value = match cell.since_first {
        Some(moved) => moved.gain_in_errors.unwrap_or(f64::NAN),
        None => 0.0,
    };
    HeatCell { value, lines }
}
