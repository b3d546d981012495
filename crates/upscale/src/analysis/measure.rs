//! What is collected, by source, and its means.

use std::collections::BTreeMap;

use super::rows::TokenFigures;
use super::statistics::{Spread, mean};

/// What was measured on one part of the texts.
pub(super) struct Measured {
    layers: usize,
    length: usize,
    sources: BTreeMap<String, SourceMeasured>,
}

/// What was measured on one source: one value per token in each list.
#[derive(Clone, Debug)]
pub(super) struct SourceMeasured {
    /// By layer of the base.
    base_cosines: Vec<Vec<f32>>,
    base_nats: Vec<f32>,
    /// By start.
    candidates: Vec<CandidateMeasured>,
}

#[derive(Clone, Debug)]
struct CandidateMeasured {
    /// By layer from the start on, in place above the seam.
    cosines: Vec<Vec<f32>>,
    nats: Vec<f32>,
    kl: Vec<f32>,
}

impl SourceMeasured {
    pub(super) fn base_layer(&mut self, layer: usize, cosines: Vec<f32>) {
        self.base_cosines[layer].extend(cosines);
    }

    pub(super) fn base_loss(&mut self, nats: impl IntoIterator<Item = f32>) {
        self.base_nats.extend(nats);
    }

    /// Adds the cosines of the layer `source` of the base, run above the seam of a candidate.
    pub(super) fn placed_layer(&mut self, start: usize, source: usize, cosines: Vec<f32>) {
        self.candidates[start].cosines[source - start].extend(cosines);
    }

    pub(super) fn loss(&mut self, start: usize, figures: impl IntoIterator<Item = TokenFigures>) {
        let candidate = &mut self.candidates[start];
        for TokenFigures { nats, kl } in figures {
            candidate.nats.push(nats);
            candidate.kl.push(kl);
        }
    }
}

impl Measured {
    pub(super) fn new(layers: usize, length: usize) -> Self {
        Self { layers, length, sources: BTreeMap::new() }
    }

    pub(super) fn layers(&self) -> usize {
        self.layers
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn source(&mut self, name: &str) -> &mut SourceMeasured {
        let (layers, length) = (self.layers, self.length);
        self.sources.entry(name.to_owned()).or_insert_with(|| SourceMeasured {
            base_cosines: vec![Vec::new(); layers],
            base_nats: Vec::new(),
            candidates: (0..=layers - length)
                .map(|start| CandidateMeasured {
                    cosines: vec![Vec::new(); layers - start],
                    nats: Vec::new(),
                    kl: Vec::new(),
                })
                .collect(),
        })
    }

    pub(super) fn tokens(&self, name: &str) -> usize {
        self.sources.get(name).map_or(0, |source| source.base_nats.len())
    }

    pub(super) fn base_cosine(&self, layer: usize) -> f64 {
        self.over_sources(|source| mean(&source.base_cosines[layer]))
    }

    pub(super) fn base_spreads(&self, layer: usize) -> BTreeMap<String, Spread> {
        let spread = |source: &SourceMeasured| Spread::of(&source.base_cosines[layer]);
        self.sources.iter().map(|(name, source)| (name.clone(), spread(source))).collect()
    }

    pub(super) fn base_nats(&self) -> f64 {
        self.over_sources(|source| mean(&source.base_nats))
    }

    /// The mean cosine of the layer `source` of the base, run above the seam of a candidate.
    pub(super) fn placed_cosine(&self, start: usize, source: usize) -> f64 {
        self.over_sources(|measured| mean(&measured.candidates[start].cosines[source - start]))
    }

    /// The mean over the new layers of a candidate.
    pub(super) fn cosine_in_place(&self, start: usize) -> f64 {
        let copies = start..start + self.length;
        copies.map(|source| self.placed_cosine(start, source)).sum::<f64>() / self.length as f64
    }

    pub(super) fn kl_nats(&self, start: usize) -> f64 {
        self.over_sources(|source| mean(&source.candidates[start].kl))
    }

    pub(super) fn delta_nats(&self, start: usize) -> f64 {
        self.over_sources(|source| delta(source, start))
    }

    pub(super) fn delta_nats_per_source(&self, start: usize) -> BTreeMap<String, f64> {
        self.sources.iter().map(|(name, source)| (name.clone(), delta(source, start))).collect()
    }

    fn over_sources(&self, value: impl Fn(&SourceMeasured) -> f64) -> f64 {
        self.sources.values().map(value).sum::<f64>() / self.sources.len() as f64
    }
}

fn delta(source: &SourceMeasured, start: usize) -> f64 {
    mean(&source.candidates[start].nats) - mean(&source.base_nats)
}
