//! Drawing a map of cells.

use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, DrawError, color, font};
use crate::{Color, HeatCell, HeatMap};

/// The steps of the legend's strip.
const STRIP: i32 = 60;

/// Where the cells are, in pixels of the drawing.
struct Grid {
    left: i32,
    top: i32,
    width: i32,
    height: i32,
}

/// Draws a map under its title.
pub(super) fn draw<B: DrawingBackend>(
    title: &str,
    map: &HeatMap,
    area: &Area<'_, B>,
    scale: u32,
) -> Result<(), DrawError> {
    let unit = scale.cast_signed();
    let (width, height) = area.dim_in_pixel();
    let mut left = 0;
    for row in &map.rows {
        let size = area.estimate_text_size(row, &font(12 * scale)).map_err(DrawError::new)?;
        left = left.max(size.0.cast_signed());
    }
    let (left, top) = (left + 24 * unit, 64 * unit);
    let columns = map.columns.len().max(1) as i32;
    let rows = map.rows.len().max(1) as i32;
    let grid = Grid {
        left,
        top,
        width: (width.cast_signed() - left - 16 * unit) / columns,
        height: (height.cast_signed() - top - 60 * unit) / rows,
    };
    let at = |h, v| Pos::new(h, v);
    let middle = at(HPos::Center, VPos::Center);
    text(area, title, (width.cast_signed() / 2, 20 * unit), font(15 * scale).pos(middle))?;
    for (place, name) in map.columns.iter().enumerate() {
        let x = grid.left + grid.width * place as i32 + grid.width / 2;
        text(area, name, (x, top - 12 * unit), font(12 * scale).pos(middle))?;
    }
    for (line, (name, cells)) in map.rows.iter().zip(&map.cells).enumerate() {
        let y = grid.top + grid.height * line as i32;
        let end = at(HPos::Right, VPos::Center);
        let before = (left - 10 * unit, y + grid.height / 2);
        text(area, name, before, font(12 * scale).pos(end))?;
        for (place, cell) in cells.iter().enumerate() {
            let x = grid.left + grid.width * place as i32;
            if let Some(cell) = cell {
                draw_cell(map, cell, area, (x, y, &grid), scale)?;
            }
        }
    }
    legend(map, area, (left, height.cast_signed() - 36 * unit), scale)
}

fn draw_cell<B: DrawingBackend>(
    map: &HeatMap,
    cell: &HeatCell,
    area: &Area<'_, B>,
    (x, y, grid): (i32, i32, &Grid),
    scale: u32,
) -> Result<(), DrawError> {
    let unit = scale.cast_signed();
    let fill = map.color(cell.value);
    let corners = [(x + unit, y + unit), (x + grid.width - unit, y + grid.height - unit)];
    area.draw(&Rectangle::new(corners, color(fill).filled())).map_err(DrawError::new)?;
    area.draw(&Rectangle::new(corners, BLACK.mix(0.15))).map_err(DrawError::new)?;
    let ink = if is_dark(fill) { WHITE } else { BLACK };
    let pitch = 14 * unit;
    let first = y + grid.height / 2 - pitch * (cell.lines.len() as i32 - 1) / 2;
    for (line, words) in cell.lines.iter().enumerate() {
        let style = font(11 * scale).color(&ink).pos(Pos::new(HPos::Center, VPos::Center));
        text(area, words, (x + grid.width / 2, first + pitch * line as i32), style)?;
    }
    Ok(())
}

/// A strip of all colours, with what its ends and its middle mean.
fn legend<B: DrawingBackend>(
    map: &HeatMap,
    area: &Area<'_, B>,
    (x, y): (i32, i32),
    scale: u32,
) -> Result<(), DrawError> {
    let unit = scale.cast_signed();
    let [worse, better] = &map.meaning;
    let style = |h| font(11 * scale).pos(Pos::new(h, VPos::Center));
    let size = area.estimate_text_size(worse, &font(11 * scale)).map_err(DrawError::new)?;
    text(area, worse, (x, y + 6 * unit), style(HPos::Left))?;
    let x = x + size.0.cast_signed() + 10 * unit;
    let step = 2 * unit;
    for place in 0..STRIP {
        let share = f64::from(2 * place - STRIP + 1) / f64::from(STRIP - 1);
        let corners = [(x + step * place, y), (x + step * (place + 1), y + 12 * unit)];
        let fill = color(map.color(share * map.limit)).filled();
        area.draw(&Rectangle::new(corners, fill)).map_err(DrawError::new)?;
    }
    text(area, better, (x + step * STRIP + 10 * unit, y + 6 * unit), style(HPos::Left))
}

fn text<B: DrawingBackend>(
    area: &Area<'_, B>,
    words: &str,
    at: (i32, i32),
    style: TextStyle<'_>,
) -> Result<(), DrawError> {
    area.draw(&Text::new(words, at, style)).map_err(DrawError::new)
}

/// Whether white can be read on it better than black.
fn is_dark(Color(red, green, blue): Color) -> bool {
    let [red, green, blue] = [red, green, blue].map(f64::from);
    0.299 * red + 0.587 * green + 0.114 * blue < 140.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Figure, Panel};

    fn map() -> HeatMap {
        let cell = |value: f64, words: &str| {
            Some(HeatCell { value, lines: vec![words.to_owned(), format!("{value:+.1}")] })
        };
        HeatMap {
            columns: vec!["base".to_owned(), "after one".to_owned()],
            rows: vec!["english".to_owned(), "a task with a long name".to_owned()],
            cells: vec![
                vec![cell(0.0, "1.2345"), cell(-7.0, "1.3")],
                vec![None, cell(f64::NAN, "0.5")],
            ],
            limit: 4.0,
            meaning: ["worse".to_owned(), "better".to_owned()],
        }
    }

    #[test]
    fn colours_go_from_vermilion_over_white_to_blue() {
        let map = map();
        assert_eq!(map.color(0.0), Color(255, 255, 255));
        assert_eq!((map.color(-4.0), map.color(-9.0)), (Color(213, 94, 0), Color(213, 94, 0)));
        assert_eq!(map.color(4.0), Color(0, 114, 178));
        assert_eq!(map.color(2.0), Color(128, 185, 217));
        assert_eq!(map.color(f64::NAN), map.color(f64::INFINITY));
        assert!(is_dark(map.color(4.0)) && !is_dark(map.color(0.0)));
    }

    #[test]
    fn a_map_is_drawn_with_its_numbers_in_the_cells() {
        let map = map();
        let size = map.size();
        let panel = Panel { title: "a map".to_owned(), map: Some(map), ..Panel::default() };
        let figure = Figure { panel_size: size, ..Figure::new(vec![panel], 1) };
        let svg = figure.svg().unwrap();
        for words in ["a map", "base", "after one", "english", "1.2345", "-7.0", "worse", "better"]
        {
            assert!(svg.contains(&format!("\n{words}\n")), "{words}: {svg}");
        }
        // Three cells, and the strip of the legend.
        let filled = svg.matches("stroke=\"none\"").count();
        assert!(filled >= 3 + STRIP as usize, "{filled}");
        assert!(svg.contains("#D55E00") && svg.contains("#E1E1E1"), "{svg}");
        assert!(!figure.png().unwrap().is_empty());
    }

    #[test]
    fn an_empty_map_is_drawn_too() {
        let panel =
            Panel { map: Some(HeatMap { limit: 1.0, ..HeatMap::default() }), ..Panel::default() };
        assert!(Figure::new(vec![panel], 1).svg().is_ok());
    }
}
