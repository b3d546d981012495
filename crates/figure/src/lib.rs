//! Figures of curves and of coloured cells, as SVG and PNG, the same on every machine.
//!
//! A [`Figure`] is data: panels with curves in them, or with a map. It is drawn with a font of its own, so that labels
//! depend on no machine.

mod draw;
mod map;
mod panel;

pub use draw::{DrawError, Figure};
pub use map::{HeatCell, HeatMap};
pub use panel::{Color, Legend, Mark, Panel, Scale, Series, Shade, Style, palette};
