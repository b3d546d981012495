//! Which layers to repeat: every candidate of a length, tried in place and measured.
//!
//! 01.AI chose the layers of Yi-9B by the cosine between what enters and what leaves them. Here the
//! up-scaled model of each candidate is run, and the cosine is one of three criteria: beside it
//! stand the divergence from the base and the change of the loss, and how well either cosine
//! predicts the divergence.

mod measure;
mod picture;
mod rows;
mod sample;
mod statistics;
mod sweep;

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::Serialize;
use terrace_model::CausalLm;

pub use self::sample::{Calibration, Error};
pub use self::statistics::{Spread, rank_correlation};

use self::measure::Measured;
use self::sweep::Sweep;

/// What a choice of layers is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// The mean divergence of the up-scaled model's predictions from the base's; least is best.
    #[default]
    Kl,
    /// The change of the loss; least is best.
    Loss,
    /// The mean cosine of the new layers in place; greatest is best.
    Cosine,
}

/// What was found about a model and the candidates of one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// The number of layers of the base.
    pub source_layers: usize,
    /// The number of layers that are repeated.
    pub length: usize,
    /// What decided.
    pub criterion: Criterion,
    /// The candidate that the criterion chose on the texts for selecting.
    pub chosen: Choice,
    /// The base's layers, on the texts for reporting.
    pub layers: Vec<LayerReport>,
    /// The layers of the chosen up-scaled model in place, on the texts for reporting.
    pub upscaled_layers: Vec<PlacedLayer>,
    /// All candidates on the texts for reporting, by ascending divergence.
    pub candidates: Vec<Candidate>,
    /// How well the cosines predict the divergence, over the candidates.
    pub rank_correlation: RankCorrelation,
    /// The base's loss on the texts for reporting, in nats per token, mean over sources.
    pub base_nats: f64,
    /// How much text was read, by source.
    pub texts: BTreeMap<String, TextReport>,
}

/// A half-open range of layers to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The first layer that is repeated.
    pub start: usize,
    /// The layer after the last one.
    pub end: usize,
}

/// One layer of the base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// Its number.
    pub layer: usize,
    /// The cosine between the residual stream that enters and that leaves, mean over sources.
    pub cosine: f64,
    /// The same by source.
    pub sources: BTreeMap<String, Spread>,
}

/// One layer of the chosen up-scaled model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlacedLayer {
    /// Its number.
    pub layer: usize,
    /// The layer of the base that it is.
    pub source: usize,
    /// Whether it is a copy.
    pub copy: bool,
    /// The cosine between the residual stream that enters and that leaves it, mean over sources.
    pub cosine: f64,
}

/// What repeating one range of layers does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The first layer that is repeated.
    pub start: usize,
    /// The layer after the last one.
    pub end: usize,
    /// The mean cosine of the repeated layers in the base.
    pub cosine_base: f64,
    /// The mean cosine of the new layers in place in the up-scaled model.
    pub cosine_in_place: f64,
    /// The change of the loss from the base, in nats per token.
    pub delta_nats: f64,
    /// The mean divergence KL(base ‖ up-scaled), in nats per token.
    pub kl_nats: f64,
    /// The change of the loss by source.
    pub delta_nats_per_source: BTreeMap<String, f64>,
    /// The same figures on the texts for selecting.
    pub selection: Figures,
}

/// The figures that decide.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The mean cosine of the new layers in place.
    pub cosine_in_place: f64,
    /// The change of the loss, in nats per token.
    pub delta_nats: f64,
    /// The mean divergence, in nats per token.
    pub kl_nats: f64,
}

/// Spearman's rank correlation with the divergence over the candidates; none where it is not
/// defined (fewer than three candidates, or no variation). A cosine that predicts well is near -1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankCorrelation {
    /// Of the cosine of the repeated layers in the base.
    pub cosine_base_with_kl: Option<f64>,
    /// Of the cosine of the new layers in place.
    pub cosine_in_place_with_kl: Option<f64>,
    /// Of the change of the loss.
    pub delta_nats_with_kl: Option<f64>,
}

/// How much text of a source was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TextReport {
    /// Sequences for selecting.
    pub selection_sequences: usize,
    /// Sequences for reporting; none of them is among those for selecting.
    pub report_sequences: usize,
    /// Tokens that count for reporting: those with a target that do not begin a document.
    pub report_tokens: usize,
}

/// Tries every range of `length` layers on `calibration`.
///
/// Means over tokens are taken within a source, and means over sources then count each alike.
///
/// # Errors
///
/// The length is not between 1 and the number of layers.
///
/// # Source
///
/// Candidates and criteria: Yi (arXiv 2403.04652, section 7) for the cosine; the block influence of
/// ShortGPT (arXiv 2403.03853) is one minus it. The first token of each document is left out, since
/// attention sinks make it unlike any other.
pub fn analyze(
    model: &CausalLm,
    device: &Device,
    calibration: &Calibration,
    length: usize,
    criterion: Criterion,
    mut progress: impl FnMut(usize, usize),
) -> Result<Analysis, Error> {
    let layers = model.layers.len();
    if length == 0 || length > layers {
        return Err(Error::Length { length, layers });
    }
    let sweep = Sweep::new(model, device, calibration.sequence_length(), length);
    let total = calibration.sequences();
    let mut done = 0;
    let mut measure = |part: sample::Part| {
        let mut measured = Measured::new(layers, length);
        for (source, batch) in calibration.batches(part) {
            sweep.run(&batch, measured.source(source));
            done += batch.rows;
            progress(done, total);
        }
        measured
    };
    let selection = measure(sample::Part::Selection);
    let report = measure(sample::Part::Report);
    Ok(describe(&selection, &report, length, criterion, calibration))
}

fn describe(
    selection: &Measured,
    report: &Measured,
    length: usize,
    criterion: Criterion,
    calibration: &Calibration,
) -> Analysis {
    let layers = report.layers();
    let count = layers - length + 1;
    let chosen = (0..count)
        .min_by(|a, b| score(selection, *a, criterion).total_cmp(&score(selection, *b, criterion)))
        .expect("there is at least one candidate");
    let base_cosines: Vec<f64> = (0..layers).map(|layer| report.base_cosine(layer)).collect();
    let mut candidates: Vec<Candidate> =
        (0..count).map(|start| candidate(selection, report, &base_cosines, start)).collect();
    let column = |f: fn(&Candidate) -> f64| candidates.iter().map(f).collect::<Vec<f64>>();
    let kl = column(|c| c.kl_nats);
    let correlations = RankCorrelation {
        cosine_base_with_kl: rank_correlation(&column(|c| c.cosine_base), &kl),
        cosine_in_place_with_kl: rank_correlation(&column(|c| c.cosine_in_place), &kl),
        delta_nats_with_kl: rank_correlation(&column(|c| c.delta_nats), &kl),
    };
    candidates.sort_by(|a, b| a.kl_nats.total_cmp(&b.kl_nats));
    Analysis {
        source_layers: layers,
        length,
        criterion,
        chosen: Choice { start: chosen, end: chosen + length },
        layers: (0..layers)
            .map(|layer| LayerReport {
                layer,
                cosine: base_cosines[layer],
                sources: report.base_spreads(layer),
            })
            .collect(),
        upscaled_layers: placed(report, &base_cosines, chosen, length),
        candidates,
        rank_correlation: correlations,
        base_nats: report.base_nats(),
        texts: calibration
            .names()
            .map(|name| (name.to_owned(), calibration.text_report(name, report.tokens(name))))
            .collect(),
    }
}

fn score(measured: &Measured, start: usize, criterion: Criterion) -> f64 {
    match criterion {
        Criterion::Kl => measured.kl_nats(start),
        Criterion::Loss => measured.delta_nats(start),
        Criterion::Cosine => -measured.cosine_in_place(start),
    }
}

fn candidate(
    selection: &Measured,
    report: &Measured,
    base_cosines: &[f64],
    start: usize,
) -> Candidate {
    let end = start + report.length();
    let repeated = &base_cosines[start..end];
    Candidate {
        start,
        end,
        cosine_base: repeated.iter().sum::<f64>() / repeated.len() as f64,
        cosine_in_place: report.cosine_in_place(start),
        delta_nats: report.delta_nats(start),
        kl_nats: report.kl_nats(start),
        delta_nats_per_source: report.delta_nats_per_source(start),
        selection: Figures {
            cosine_in_place: selection.cosine_in_place(start),
            delta_nats: selection.delta_nats(start),
            kl_nats: selection.kl_nats(start),
        },
    }
}

/// The layers of the chosen model: the base's up to the seam, then those measured in place.
fn placed(
    report: &Measured,
    base_cosines: &[f64],
    start: usize,
    length: usize,
) -> Vec<PlacedLayer> {
    let seam = start + length;
    let below = (0..seam).map(|layer| PlacedLayer {
        layer,
        source: layer,
        copy: false,
        cosine: base_cosines[layer],
    });
    let above = (start..base_cosines.len()).map(|source| PlacedLayer {
        layer: source + length,
        source,
        copy: source < seam,
        cosine: report.placed_cosine(start, source),
    });
    below.chain(above).collect()
}
