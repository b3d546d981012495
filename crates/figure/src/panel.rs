//! What a figure shows.

use crate::HeatMap;

/// A colour by its red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

/// Okabe and Ito's palette, told apart by colour-blind readers too.
pub mod palette {
    use super::Color;

    #[expect(missing_docs, reason = "the names say it")]
    mod names {
        use super::Color;
        pub const BLUE: Color = Color(0, 114, 178);
        pub const VERMILION: Color = Color(213, 94, 0);
        pub const GREEN: Color = Color(0, 158, 115);
        pub const PURPLE: Color = Color(204, 121, 167);
        pub const ORANGE: Color = Color(230, 159, 0);
        pub const SKY: Color = Color(86, 180, 233);
        pub const BLACK: Color = Color(0, 0, 0);
        pub const GREY: Color = Color(120, 120, 120);
    }
    pub use names::*;

    /// The colour of the so-manyth curve of a panel.
    #[must_use]
    pub fn nth(place: usize) -> Color {
        [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK][place % 7]
    }
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from the least value to the largest.
    #[default]
    Linear,
    /// Evenly, from zero.
    FromZero,
    /// By powers; values that are not positive are left out.
    Logarithmic,
}

/// Where the names of the curves stand, so that they cover none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Legend {
    UpperLeft,
    UpperMiddle,
    #[default]
    UpperRight,
    MiddleRight,
    LowerLeft,
    LowerMiddle,
    LowerRight,
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A line through the points.
    #[default]
    Line,
    /// A line with a dot at each point.
    Dotted,
    /// Horizontal from each point to the next, as what is set at one point holds until the next.
    Steps,
    /// A ring around each point.
    Rings,
}

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name; none leaves it out of the legend.
    pub label: Option<String>,
    /// Its colour.
    pub color: Color,
    /// Its points; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: Style,
}

impl Series {
    /// A line with a name.
    #[must_use]
    pub fn line(label: &str, color: Color, points: Vec<(f64, f64)>) -> Self {
        Self { label: Some(label.to_owned()), color, points, style: Style::Line }
    }

    /// The same, drawn in another way.
    #[must_use]
    pub fn drawn(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

/// A vertical line with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Where it stands.
    pub x: f64,
    /// Its name in the legend, once for all marks of the name.
    pub label: String,
    /// Its colour.
    pub color: Color,
}

/// A shaded range of the horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shade {
    /// From where to where.
    pub from: f64,
    /// Its other end.
    pub to: f64,
    /// Its colour, which is drawn faintly.
    pub color: Color,
}

/// One pair of axes, or a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// What the horizontal axis is.
    pub x: String,
    /// What the vertical axis is.
    pub y: String,
    /// How the horizontal axis is divided.
    pub x_scale: Scale,
    /// How the vertical axis is divided.
    pub y_scale: Scale,
    /// Where the names stand.
    pub legend: Legend,
    /// What is shaded, behind everything.
    pub shades: Vec<Shade>,
    /// Vertical lines.
    pub marks: Vec<Mark>,
    /// The curves.
    pub series: Vec<Series>,
    /// A map in place of all these but the title.
    pub map: Option<HeatMap>,
}
