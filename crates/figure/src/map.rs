//! A map of cells with colours.

use crate::Color;
use crate::palette::{BLUE, VERMILION};

/// Cells in lines and columns, whose colours say how far a value is from zero, and to which side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// What stands above each column.
    pub columns: Vec<String>,
    /// What stands before each line.
    pub rows: Vec<String>,
    /// The cells, line by line; where there is none it stays empty.
    pub cells: Vec<Vec<Option<HeatCell>>>,
    /// The value, above zero, from which on the colour is full.
    pub limit: f64,
    /// What a negative and what a positive value means, for the legend.
    pub meaning: [String; 2],
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatCell {
    /// What its colour stands for; one that is not finite is grey.
    pub value: f64,
    /// What is written in it, line by line.
    pub lines: Vec<String>,
}

impl HeatMap {
    /// The colour of a value: vermilion below zero, blue above, white at it.
    #[must_use]
    pub fn color(&self, value: f64) -> Color {
        if !value.is_finite() {
            return Color(225, 225, 225);
        }
        let share = (value / self.limit).clamp(-1.0, 1.0);
        let Color(red, green, blue) = if share < 0.0 { VERMILION } else { BLUE };
        let mix = |full: u8| (255.0 + (f64::from(full) - 255.0) * share.abs()).round() as u8;
        Color(mix(red), mix(green), mix(blue))
    }

    /// The size at which everything in it can be read, in pixels of the SVG.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        let longest = |texts: &[String]| texts.iter().map(|t| t.chars().count()).max().unwrap_or(0);
        let lines = self.cells.iter().flatten().flatten().map(|cell| cell.lines.len()).max();
        let column = 8 * longest(&self.columns).max(11) as u32;
        let names = 8 * longest(&self.rows) as u32 + 40;
        let cells = self.rows.len() as u32 * (14 * lines.unwrap_or(1) as u32 + 12);
        (names + column * self.columns.len() as u32, cells + 130)
    }
}
