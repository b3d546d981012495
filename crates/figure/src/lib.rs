//! Figures of curves, as SVG and PNG, the same on every machine.
//!
//! A [`Figure`] is data: panels with curves in them. It is drawn with a font of its own, so that labels
//! depend on no machine.

mod draw;
mod panel;

pub use draw::{DrawError, Figure};
pub use panel::{Color, Legend, Mark, Panel, Scale, Series, Shade, Style, palette};
