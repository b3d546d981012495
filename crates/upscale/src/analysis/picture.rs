//! The analysis as a figure: cosines by layer, and what each candidate costs.

use terrace_figure::{Figure, Legend, Panel, Series, Shade, Style, palette};

use super::{Analysis, Choice};

impl Analysis {
    /// What was found, as a figure of two panels.
    #[must_use]
    pub fn figure(&self) -> Figure {
        let panels = vec![cosines(self), candidates(self)];
        Figure { panel_size: (900, 380), ..Figure::new(panels, 1) }
    }
}

/// The cosine between what enters and what leaves each layer, of the base and of the chosen model.
fn cosines(analysis: &Analysis) -> Panel {
    let base = analysis.layers.iter().map(|layer| (layer.layer as f64, layer.cosine)).collect();
    let placed = &analysis.upscaled_layers;
    let at = |layer: &super::PlacedLayer| (layer.layer as f64, layer.cosine);
    let copies = placed.iter().filter(|layer| layer.copy).map(at).collect();
    let Choice { start, end } = analysis.chosen;
    let shade =
        Shade { from: end as f64 - 0.5, to: (2 * end - start) as f64 - 0.5, color: palette::GREEN };
    let series = vec![
        Series::line("base", palette::BLUE, base).drawn(Style::Dotted),
        Series::line("up-scaled, in place", palette::VERMILION, placed.iter().map(at).collect())
            .drawn(Style::Dotted),
        Series::line("new layers", palette::GREEN, copies).drawn(Style::Rings),
    ];
    Panel {
        title: format!("Residual stream in and out of each layer, layers {start}..{end} repeated"),
        x: "layer".to_owned(),
        y: "cosine".to_owned(),
        // Cosines lie high: there the box covers no point.
        legend: Legend::LowerMiddle,
        shades: vec![shade],
        series,
        ..Panel::default()
    }
}

/// What each candidate does to the loss and to the predictions, by its first layer.
fn candidates(analysis: &Analysis) -> Panel {
    let mut sorted: Vec<_> = analysis.candidates.iter().collect();
    sorted.sort_by_key(|candidate| candidate.start);
    let line = |f: fn(&super::Candidate) -> f64| -> Vec<(f64, f64)> {
        sorted.iter().map(|candidate| (candidate.start as f64, f(candidate))).collect()
    };
    let (kl, delta) = (line(|c| c.kl_nats), line(|c| c.delta_nats));
    let starting_at = |start: usize| -> Vec<(f64, f64)> {
        kl.iter().copied().filter(|point| point.0 == start as f64).collect()
    };
    let chosen = starting_at(analysis.chosen.start);
    let solar = starting_at((analysis.source_layers - analysis.length) / 2);
    let series = vec![
        Series::line("KL from the base", palette::BLUE, kl.clone()).drawn(Style::Dotted),
        Series::line("change of the loss", palette::VERMILION, delta).drawn(Style::Dotted),
        Series::line("chosen", palette::GREEN, chosen).drawn(Style::Rings),
        Series::line("the middle (SOLAR's)", palette::GREY, solar).drawn(Style::Rings),
    ];
    Panel {
        title: format!("Repeating {} layers, by the first of them", analysis.length),
        x: "first layer repeated".to_owned(),
        y: "nats per token".to_owned(),
        // Losses bend down in the middle.
        legend: Legend::UpperMiddle,
        series,
        ..Panel::default()
    }
}
