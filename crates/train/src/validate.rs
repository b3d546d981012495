//! The loss on text that is never trained on.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use terrace_data::{Edition, MicroBatch};
use terrace_model::CausalLm;

use crate::{Engine, Error, Loader, SourceScore};

/// The held-out windows of every source that has some.
pub struct HeldOutSets {
    sets: Vec<(String, Edition)>,
    sequences_per_source: u64,
    micro_batch_sequences: usize,
}

/// The held-out loss on one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceLoss {
    /// Sequences measured.
    pub sequences: u64,
    /// Targets measured.
    pub target_tokens: u64,
    /// Bytes of text that the targets stand for.
    pub target_bytes: u64,
    /// The summed loss.
    pub nats: f64,
}

impl SourceLoss {
    /// The mean loss per target.
    #[must_use]
    pub fn nats_per_token(&self) -> f64 {
        self.nats / self.target_tokens as f64
    }

    /// The loss in bits over the bytes of text: comparable between tokenizers.
    #[must_use]
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.target_bytes as f64
    }
}

/// The held-out loss on every source, window by window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldOutLosses(BTreeMap<String, SourceLosses>);

#[derive(Clone, Debug, Default, PartialEq)]
struct SourceLosses {
    all: SourceLoss,
    nats: Vec<f64>,
    bytes: Vec<u64>,
}

impl HeldOutLosses {
    /// The loss on each source.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<String, SourceLoss> {
        self.0.iter().map(|(name, losses)| (name.clone(), losses.all)).collect()
    }

    /// The same in bits per byte, and the windows that it comes from.
    #[must_use]
    pub fn scores(&self) -> BTreeMap<String, SourceScore> {
        let score =
            |losses: &SourceLosses| SourceScore::new(losses.nats.clone(), losses.bytes.clone());
        self.0.iter().map(|(name, losses)| (name.clone(), score(losses))).collect()
    }
}

impl HeldOutSets {
    /// Opens the held-out part of each edition that has one.
    ///
    /// # Errors
    ///
    /// A held-out edition cannot be opened.
    pub fn open(
        loader: &Loader,
        sequences_per_source: u64,
        micro_batch_sequences: usize,
    ) -> Result<Self, Error> {
        let mut sets = Vec::new();
        for (name, edition) in loader.names().iter().zip(loader.sources().iter()) {
            if let Some(held_out) = edition.open_held_out()? {
                sets.push((name.clone(), held_out));
            }
        }
        Ok(Self { sets, sequences_per_source, micro_batch_sequences })
    }

    /// The number of sequences of one measurement.
    #[must_use]
    pub fn sequences(&self) -> u64 {
        self.sets.iter().map(|(_, edition)| self.taken(edition)).sum()
    }

    /// Measures the loss on each source, always on the same windows in the same order.
    pub fn measure(
        &self,
        engine: &Engine,
        model: &CausalLm,
        mut progress: impl FnMut(u64),
    ) -> HeldOutLosses {
        let mut done = 0;
        let mut measure = |edition: &Edition| {
            let mut losses = SourceLosses::default();
            let indices: Vec<u64> = (0..self.taken(edition)).collect();
            for chunk in indices.chunks(self.micro_batch_sequences) {
                let windows: Vec<_> = chunk.iter().map(|i| (0, edition.window(*i))).collect();
                let batch = MicroBatch::new(&windows, edition.sequence_length());
                add(&mut losses, engine.evaluate(model, &batch), &batch);
                done += chunk.len() as u64;
                progress(done);
            }
            losses
        };
        let sets = self.sets.iter();
        HeldOutLosses(sets.map(|(name, edition)| (name.clone(), measure(edition))).collect())
    }

    fn taken(&self, edition: &Edition) -> u64 {
        edition.windows().min(self.sequences_per_source)
    }
}

fn add(losses: &mut SourceLosses, nats: Tensor<1>, batch: &MicroBatch) {
    // SYNC: a measurement is read as it is made.
    let nats: Vec<f32> = nats.into_data().try_to_vec().expect("losses are f32");
    losses.nats.extend(nats.iter().copied().map(f64::from));
    losses.bytes.extend(batch.target_bytes.iter().map(|bytes| u64::from(*bytes)));
    let loss = &mut losses.all;
    loss.sequences += batch.rows as u64;
    loss.target_tokens += batch.total_target_tokens();
    loss.target_bytes += batch.target_bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
    loss.nats += nats.into_iter().map(f64::from).sum::<f64>();
}
