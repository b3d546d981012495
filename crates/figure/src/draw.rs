//! From a figure to a file.

mod map;

use std::collections::BTreeSet;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::{Legend, Panel, Scale, Series, Style};

/// A bitmap has so many pixels each way for one of the figure.
const BITMAP_SCALE: u32 = 2;

/// A subset of DejaVu Sans: the labels look the same on every machine.
const FONT: &[u8] = include_bytes!("../assets/labels.ttf");
const FAMILY: &str = "sans-serif";

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

/// Panels beside and below each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The panels, line by line.
    pub panels: Vec<Panel>,
    /// Panels in a line.
    pub columns: usize,
    /// The width and height of a panel, in pixels of the SVG.
    pub panel_size: (u32, u32),
}

type Area<'a, B> = DrawingArea<B, Shift>;

impl Figure {
    /// Panels in lines of `columns`.
    #[must_use]
    pub fn new(panels: Vec<Panel>, columns: usize) -> Self {
        Self { panels, columns: columns.max(1), panel_size: (560, 400) }
    }

    fn lines(&self) -> (usize, usize) {
        let columns = self.panels.len().min(self.columns).max(1);
        (self.panels.len().div_ceil(columns).max(1), columns)
    }

    fn size(&self) -> (u32, u32) {
        let (lines, columns) = self.lines();
        (self.panel_size.0 * columns as u32, self.panel_size.1 * lines as u32)
    }

    /// The figure as SVG.
    ///
    /// # Errors
    ///
    /// The drawing library refuses: a bug.
    pub fn svg(&self) -> Result<String, DrawError> {
        let mut text = String::new();
        let root = SVGBackend::with_string(&mut text, self.size()).into_drawing_area();
        self.draw(&root, 1)?;
        drop(root);
        Ok(text)
    }

    /// The figure as a PNG file's bytes.
    ///
    /// # Errors
    ///
    /// The drawing library refuses: a bug.
    pub fn png(&self) -> Result<Vec<u8>, DrawError> {
        let (width, height) = self.size();
        let (width, height) = (width * BITMAP_SCALE, height * BITMAP_SCALE);
        let mut pixels = vec![0; (width * height * 3) as usize];
        let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        self.draw(&root, BITMAP_SCALE)?;
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

    fn draw<B: DrawingBackend>(&self, root: &Area<'_, B>, scale: u32) -> Result<(), DrawError> {
        let _ = register_font(FAMILY, FontStyle::Normal, FONT);
        root.fill(&WHITE).map_err(DrawError::new)?;
        for (panel, area) in self.panels.iter().zip(&root.split_evenly(self.lines())) {
            draw_panel(panel, area, scale)?;
        }
        root.present().map_err(DrawError::new)
    }
}

fn draw_panel<B: DrawingBackend>(
    panel: &Panel,
    area: &Area<'_, B>,
    scale: u32,
) -> Result<(), DrawError> {
    if let Some(map) = &panel.map {
        return map::draw(&panel.title, map, area, scale);
    }
    let marks = panel.marks.iter().map(|mark| mark.x);
    let xs = range(panel.x_scale, points(panel).map(|point| point.0).chain(marks), 0.02);
    let ys = range(panel.y_scale, points(panel).map(|point| point.1), 0.06);
    let log = |scale: Scale| scale == Scale::Logarithmic;
    match (log(panel.x_scale), log(panel.y_scale)) {
        (false, false) => draw_on(panel, area, xs.clone(), ys.clone(), [xs, ys], scale),
        (false, true) => draw_on(panel, area, xs.clone(), ys.clone().log_scale(), [xs, ys], scale),
        (true, false) => draw_on(panel, area, xs.clone().log_scale(), ys.clone(), [xs, ys], scale),
        (true, true) => {
            let axes = (xs.clone().log_scale(), ys.clone().log_scale());
            draw_on(panel, area, axes.0, axes.1, [xs, ys], scale)
        }
    }
}

fn draw_on<B, X, Y>(
    panel: &Panel,
    area: &Area<'_, B>,
    xs: X,
    ys: Y,
    [wide, high]: [Range<f64>; 2],
    scale: u32,
) -> Result<(), DrawError>
where
    B: DrawingBackend,
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let font = |size: u32| font(size * scale);
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(12 * scale)
        .caption(&panel.title, font(15))
        .x_label_area_size(38 * scale)
        .y_label_area_size(62 * scale);
    let mut chart = builder.build_cartesian_2d(xs, ys).map_err(DrawError::new)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.08))
        .axis_style(BLACK.mix(0.5))
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .label_style(font(11))
        .axis_desc_style(font(12))
        .draw()
        .map_err(DrawError::new)?;
    for shade in &panel.shades {
        let style = color(shade.color).mix(0.12).filled();
        let [from, to] = [shade.from, shade.to].map(|x| x.clamp(wide.start, wide.end));
        let box_ = Rectangle::new([(from, high.start), (to, high.end)], style);
        chart.draw_series([box_]).map_err(DrawError::new)?;
    }
    let mut named = BTreeSet::new();
    for mark in &panel.marks {
        let stroke = color(mark.color).stroke_width(scale);
        let line = PathElement::new([(mark.x, high.start), (mark.x, high.end)], stroke);
        let drawn = chart.draw_series([line]).map_err(DrawError::new)?;
        if named.insert(&mark.label) {
            drawn.label(&mark.label).legend(move |at| key(at, stroke, scale));
        }
    }
    for series in &panel.series {
        draw_series(&mut chart, panel, series, scale)?;
    }
    let has_names = !named.is_empty() || panel.series.iter().any(|series| series.label.is_some());
    if !has_names {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(position(panel.legend))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.15))
        .margin(6 * scale)
        .legend_area_size(20 * scale)
        .label_font(font(11))
        .draw()
        .map_err(DrawError::new)
}

fn draw_series<B, X, Y>(
    chart: &mut ChartContext<'_, B, Cartesian2d<X, Y>>,
    panel: &Panel,
    series: &Series,
    scale: u32,
) -> Result<(), DrawError>
where
    B: DrawingBackend,
    X: plotters::coord::ranged1d::Ranged<ValueType = f64>,
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>,
{
    let points: Vec<(f64, f64)> =
        series.points.iter().copied().filter(|point| is_shown(panel, *point)).collect();
    let stroke = color(series.color).stroke_width(2 * scale);
    let fill = color(series.color).filled();
    if series.style == Style::Rings {
        let ring = move |at| Circle::new(at, 6 * scale, stroke);
        let drawn = chart.draw_series(points.into_iter().map(ring)).map_err(DrawError::new)?;
        if let Some(label) = &series.label {
            drawn.label(label).legend(move |(x, y)| {
                Circle::new((x + 8 * scale.cast_signed(), y), 5 * scale, stroke)
            });
        }
        return Ok(());
    }
    if series.style == Style::Dotted {
        let dot = |at: &(f64, f64)| Circle::new(*at, 3 * scale, fill);
        chart.draw_series(points.iter().map(dot)).map_err(DrawError::new)?;
    }
    let line = if series.style == Style::Steps { stairs(&points) } else { points };
    let drawn = chart.draw_series(LineSeries::new(line, stroke)).map_err(DrawError::new)?;
    if let Some(label) = &series.label {
        drawn.label(label).legend(move |at| key(at, stroke, scale));
    }
    Ok(())
}

fn key((x, y): (i32, i32), stroke: ShapeStyle, scale: u32) -> PathElement<(i32, i32)> {
    PathElement::new([(x, y), (x + 16 * scale.cast_signed(), y)], stroke)
}

/// Points with a corner between each two.
fn stairs(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let corners = points.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    corners.chain(points.last().copied()).collect()
}

fn is_shown(panel: &Panel, (x, y): (f64, f64)) -> bool {
    let fits =
        |value: f64, scale| value.is_finite() && (scale != Scale::Logarithmic || value > 0.0);
    fits(x, panel.x_scale) && fits(y, panel.y_scale)
}

fn points(panel: &Panel) -> impl Iterator<Item = (f64, f64)> + '_ {
    let all = panel.series.iter().flat_map(|series| series.points.iter().copied());
    all.filter(|point| is_shown(panel, *point))
}

/// A range that holds all values, with a margin of this share of it.
fn range(scale: Scale, values: impl Iterator<Item = f64>, margin: f64) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite() && (scale != Scale::Logarithmic || *value > 0.0))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    match scale {
        _ if low > high => 0.5..2.0,
        Scale::Logarithmic => low / 1.15..high * 1.15,
        Scale::FromZero => 0.0..(high * (1.0 + margin)).max(1e-6),
        Scale::Linear => {
            let margin = ((high - low) * margin).max(1e-6 * high.abs()).max(1e-9);
            low - margin..high + margin
        }
    }
}

fn font(size: u32) -> TextStyle<'static> {
    (FAMILY, size).into_font().color(&BLACK)
}

fn color(of: crate::Color) -> RGBColor {
    RGBColor(of.0, of.1, of.2)
}

fn position(legend: Legend) -> SeriesLabelPosition {
    match legend {
        Legend::UpperLeft => SeriesLabelPosition::UpperLeft,
        Legend::UpperMiddle => SeriesLabelPosition::UpperMiddle,
        Legend::UpperRight => SeriesLabelPosition::UpperRight,
        Legend::MiddleRight => SeriesLabelPosition::MiddleRight,
        Legend::LowerLeft => SeriesLabelPosition::LowerLeft,
        Legend::LowerMiddle => SeriesLabelPosition::LowerMiddle,
        Legend::LowerRight => SeriesLabelPosition::LowerRight,
    }
}

/// A number as short as it can be said.
fn number(value: &f64) -> String {
    let size = value.abs();
    let short = |value: f64, unit: &str| format!("{}{unit}", (value * 100.0).round() / 100.0);
    match () {
        () if size >= 1e9 => short(value / 1e9, "G"),
        () if size >= 1e6 => short(value / 1e6, "M"),
        () if size >= 1e4 => short(value / 1e3, "K"),
        () if size >= 100.0 || size == 0.0 => short(*value, ""),
        () if size >= 1e-3 => format!("{}", (value * 1e4).round() / 1e4),
        () => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mark, Shade, palette};

    fn panel(x_scale: Scale, y_scale: Scale, points: &[(f64, f64)]) -> Panel {
        let styles = [Style::Line, Style::Dotted, Style::Steps, Style::Rings];
        let series = styles.into_iter().enumerate().map(|(place, style)| {
            Series::line(&format!("curve {place}"), palette::nth(place), points.to_vec())
                .drawn(style)
        });
        Panel {
            title: "a panel".to_owned(),
            x: "steps".to_owned(),
            y: "loss".to_owned(),
            x_scale,
            y_scale,
            shades: vec![Shade { from: 2.0, to: 5.0, color: palette::GREY }],
            marks: vec![Mark { x: 3.0, label: "a mark".to_owned(), color: palette::GREEN }; 2],
            series: series.collect(),
            ..Panel::default()
        }
    }

    #[test]
    fn a_figure_is_drawn_on_every_pair_of_axes_and_without_points() {
        let points = [(1.0, 2.0), (10.0, 0.5), (1000.0, 0.01), (2000.0, f64::NAN), (-1.0, 0.0)];
        let scales = [Scale::Linear, Scale::FromZero, Scale::Logarithmic];
        let mut panels: Vec<Panel> =
            scales.iter().flat_map(|x| scales.iter().map(|y| panel(*x, *y, &points))).collect();
        panels.push(panel(Scale::Logarithmic, Scale::Linear, &[]));
        panels.push(Panel::default());
        let figure = Figure::new(panels, 2);
        let svg = figure.svg().unwrap();
        assert!(svg.contains("a panel") && svg.contains("curve 3") && svg.contains("a mark"));
        assert!(!svg.contains("NaN"), "what is not finite is left out");
        assert_eq!(svg.matches(">a mark<").count(), 0, "labels stand on lines of their own");
        assert_eq!(svg.matches("\na mark\n").count(), 10, "once for each panel that has it");
        let png = figure.png().unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(png));
        let info = decoder.read_info().unwrap();
        assert_eq!((info.info().width, info.info().height), (2240, 4800));
    }

    #[test]
    fn stairs_hold_a_value_until_the_next() {
        let corners = [(1.0, 2.0), (3.0, 2.0), (3.0, 5.0)];
        assert_eq!(stairs(&[(1.0, 2.0), (3.0, 5.0)]), corners);
        assert_eq!(stairs(&[]), []);
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.01, 1.0, 1500.0, 20_000.0, 3e6, 0.0001, 0.98765, 2.3456, 4e11];
        let said = numbers.map(|x| number(&x));
        assert_eq!(
            said,
            ["0", "0.01", "1", "1500", "20K", "3M", "1e-4", "0.9877", "2.3456", "400G"]
        );
    }
}
