//! The analysis as a figure: cosines by layer, and what each candidate costs.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::{Analysis, Choice};

/// The size of the figure in pixels; a bitmap has twice as many each way.
const SIZE: (u32, u32) = (900, 760);
const BITMAP_SCALE: u32 = 2;

/// A subset of DejaVu Sans: the labels look the same on every machine.
const FONT: &[u8] = include_bytes!("../../assets/labels.ttf");
const FAMILY: &str = "sans-serif";

// Okabe and Ito's palette, told apart by colour-blind readers too.
const BASE: RGBColor = RGBColor(0, 114, 178);
const UPSCALED: RGBColor = RGBColor(213, 94, 0);
const CHOSEN: RGBColor = RGBColor(0, 158, 115);
const GREY: RGBColor = RGBColor(120, 120, 120);

/// Why a figure cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the figure: {reason}")]
pub struct DrawError {
    reason: String,
}

impl DrawError {
    fn new(error: impl std::fmt::Display) -> Self {
        Self { reason: error.to_string() }
    }
}

type Area<'a, B> = DrawingArea<B, Shift>;

/// The figure as SVG.
///
/// # Errors
///
/// The drawing library refuses: a bug.
pub fn svg(analysis: &Analysis) -> Result<String, DrawError> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    draw(&root, analysis, 1)?;
    drop(root);
    Ok(text)
}

/// The figure as a PNG file's bytes.
///
/// # Errors
///
/// The drawing library refuses: a bug.
pub fn png(analysis: &Analysis) -> Result<Vec<u8>, DrawError> {
    let (width, height) = (SIZE.0 * BITMAP_SCALE, SIZE.1 * BITMAP_SCALE);
    let mut pixels = vec![0; (width * height * 3) as usize];
    let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    draw(&root, analysis, BITMAP_SCALE)?;
    drop(root);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(DrawError::new)?;
    writer.write_image_data(&pixels).map_err(DrawError::new)?;
    writer.finish().map_err(DrawError::new)?;
    Ok(bytes)
}

fn draw<B: DrawingBackend>(
    root: &Area<'_, B>,
    analysis: &Analysis,
    scale: u32,
) -> Result<(), DrawError> {
    let _ = register_font(FAMILY, FontStyle::Normal, FONT);
    root.fill(&WHITE).map_err(DrawError::new)?;
    let (upper, lower) = root.split_vertically(SIZE.1 * scale / 2);
    cosines(&upper, analysis, scale)?;
    candidates(&lower, analysis, scale)?;
    root.present().map_err(DrawError::new)
}

/// The cosine between what enters and what leaves each layer, of the base and of the chosen model.
fn cosines<B: DrawingBackend>(
    area: &Area<'_, B>,
    analysis: &Analysis,
    scale: u32,
) -> Result<(), DrawError> {
    let base: Vec<(f64, f64)> =
        analysis.layers.iter().map(|layer| (layer.layer as f64, layer.cosine)).collect();
    let placed = &analysis.upscaled_layers;
    let upscaled: Vec<(f64, f64)> =
        placed.iter().map(|layer| (layer.layer as f64, layer.cosine)).collect();
    let copies: Vec<(f64, f64)> = placed
        .iter()
        .filter(|layer| layer.copy)
        .map(|layer| (layer.layer as f64, layer.cosine))
        .collect();
    let xs = -0.5..upscaled.len() as f64 - 0.5;
    let ys = padded(base.iter().chain(&upscaled).map(|point| point.1));
    let Choice { start, end } = analysis.chosen;
    let panel = Panel {
        title: format!("Residual stream in and out of each layer, layers {start}..{end} repeated"),
        x: "layer",
        y: "cosine",
        xs,
        ys: ys.clone(),
        scale,
    };
    let mut chart = panel.chart(area)?;
    let shade = Rectangle::new(
        [(end as f64 - 0.5, ys.start), ((2 * end - start) as f64 - 0.5, ys.end)],
        CHOSEN.mix(0.12).filled(),
    );
    chart.draw_series([shade]).map_err(DrawError::new)?;
    panel.line(&mut chart, &base, BASE, "base")?;
    panel.line(&mut chart, &upscaled, UPSCALED, "up-scaled, in place")?;
    panel.rings(&mut chart, &copies, CHOSEN, "new layers")?;
    panel.legend(&mut chart, SeriesLabelPosition::LowerMiddle)
}

/// What each candidate does to the loss and to the predictions, by its first layer.
fn candidates<B: DrawingBackend>(
    area: &Area<'_, B>,
    analysis: &Analysis,
    scale: u32,
) -> Result<(), DrawError> {
    let mut sorted: Vec<_> = analysis.candidates.iter().collect();
    sorted.sort_by_key(|candidate| candidate.start);
    let line = |f: fn(&super::Candidate) -> f64| -> Vec<(f64, f64)> {
        sorted.iter().map(|candidate| (candidate.start as f64, f(candidate))).collect()
    };
    let (kl, delta) = (line(|c| c.kl_nats), line(|c| c.delta_nats));
    let panel = Panel {
        title: format!("Repeating {} layers, by the first of them", analysis.length),
        x: "first layer repeated",
        y: "nats per token",
        xs: -0.5..sorted.len() as f64 - 0.5,
        ys: padded(kl.iter().chain(&delta).map(|point| point.1).chain([0.0])),
        scale,
    };
    let mut chart = panel.chart(area)?;
    panel.line(&mut chart, &kl, BASE, "KL from the base")?;
    panel.line(&mut chart, &delta, UPSCALED, "change of the loss")?;
    let chosen: Vec<(f64, f64)> =
        kl.iter().copied().filter(|point| point.0 == analysis.chosen.start as f64).collect();
    panel.rings(&mut chart, &chosen, CHOSEN, "chosen")?;
    let middle = (analysis.source_layers - analysis.length) / 2;
    let solar: Vec<(f64, f64)> =
        kl.iter().copied().filter(|point| point.0 == middle as f64).collect();
    panel.rings(&mut chart, &solar, GREY, "the middle (SOLAR's)")?;
    panel.legend(&mut chart, SeriesLabelPosition::UpperMiddle)
}

/// A range of values with a margin.
fn padded(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let margin = ((high - low) * 0.06).max(1e-6);
    low - margin..high + margin
}

/// One pair of axes.
struct Panel {
    title: String,
    x: &'static str,
    y: &'static str,
    xs: Range<f64>,
    ys: Range<f64>,
    scale: u32,
}

type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Panel {
    fn font(&self, size: u32) -> TextStyle<'static> {
        (FAMILY, size * self.scale).into_font().color(&BLACK)
    }

    fn chart<'a, B: DrawingBackend>(&self, area: &Area<'_, B>) -> Result<Chart<'a, B>, DrawError> {
        let mut builder = ChartBuilder::on(area);
        builder
            .margin(14 * self.scale)
            .caption(&self.title, self.font(17))
            .x_label_area_size(42 * self.scale)
            .y_label_area_size(68 * self.scale);
        let mut chart =
            builder.build_cartesian_2d(self.xs.clone(), self.ys.clone()).map_err(DrawError::new)?;
        let ticks = (self.xs.end - self.xs.start).round() as usize;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.08))
            .axis_style(BLACK.mix(0.5))
            .x_desc(self.x)
            .y_desc(self.y)
            .x_labels(ticks.min(16))
            .y_labels(6)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.3}"))
            .label_style(self.font(12))
            .axis_desc_style(self.font(13))
            .draw()
            .map_err(DrawError::new)?;
        Ok(chart)
    }

    fn line<B: DrawingBackend>(
        &self,
        chart: &mut Chart<'_, B>,
        points: &[(f64, f64)],
        color: RGBColor,
        label: &str,
    ) -> Result<(), DrawError> {
        let scale = self.scale;
        let stroke = color.stroke_width(2 * scale);
        let dots = points.iter().map(|at| Circle::new(*at, 3 * scale, color.filled()));
        chart.draw_series(dots).map_err(DrawError::new)?;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), stroke))
            .map_err(DrawError::new)?
            .label(label)
            .legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18 * scale.cast_signed(), y)], stroke)
            });
        Ok(())
    }

    fn rings<B: DrawingBackend>(
        &self,
        chart: &mut Chart<'_, B>,
        points: &[(f64, f64)],
        color: RGBColor,
        label: &str,
    ) -> Result<(), DrawError> {
        let scale = self.scale;
        let stroke = color.stroke_width(2 * scale);
        let ring = move |at| Circle::new(at, 6 * scale, stroke);
        chart
            .draw_series(points.iter().map(|at| ring(*at)))
            .map_err(DrawError::new)?
            .label(label)
            .legend(move |(x, y)| Circle::new((x + 9 * scale.cast_signed(), y), 5 * scale, stroke));
        Ok(())
    }

    // Cosines lie high and losses bend down in the middle: there the box covers no point.
    fn legend<'a, B: DrawingBackend + 'a>(
        &self,
        chart: &mut Chart<'a, B>,
        position: SeriesLabelPosition,
    ) -> Result<(), DrawError> {
        chart
            .configure_series_labels()
            .position(position)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.15))
            .margin(8 * self.scale)
            .legend_area_size(24 * self.scale)
            .label_font(self.font(12))
            .draw()
            .map_err(DrawError::new)
    }
}
