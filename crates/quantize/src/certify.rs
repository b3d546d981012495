//! What rounding a model's weights changes in its predictions, measured on held-out text.

mod rows;
mod text;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Serialize;
use terrace_config::Architecture;
use terrace_data::MicroBatch;
use terrace_kernels::RopeTable;
use terrace_model::{FrozenLm, SequenceContext, hf};

use self::rows::{Figures, compare};
pub use self::text::Text;
use crate::Error;

/// The number of tokens whose logits exist at one time.
const CHUNK_TOKENS: usize = 256;
/// The perplexity may grow by less than this factor.
pub const PERPLEXITY_GATE: f64 = 1.002;
/// The likeliest token has to stay the same for more than this share.
pub const AGREEMENT_GATE: f64 = 0.99;

/// A model and its rounded form.
pub struct Pair {
    model: FrozenLm,
    quantized: FrozenLm,
    device: Device,
}

/// What was measured on one text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceReport {
    /// What the text is called.
    pub source: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it was held out of an edition; false for files and for editions with nothing held out.
    pub held_out: bool,
    /// The tokens that were predicted.
    pub tokens: u64,
    /// The model's mean loss.
    pub nats_per_token: f64,
    /// The rounded model's mean loss.
    pub quantized_nats_per_token: f64,
    /// The rounded model's perplexity divided by the model's.
    pub perplexity_ratio: f64,
    /// The mean of KL(model ‖ rounded model) in nats.
    pub kl_nats_per_token: f64,
    /// The share of tokens for which both models find the same one likeliest.
    pub top_1_agreement: f64,
    /// Whether ratio and agreement are within their gates.
    pub passed: bool,
}

impl Pair {
    /// Loads both forms.
    ///
    /// # Errors
    ///
    /// One cannot be loaded, or they are not of one shape.
    pub fn load(model: &Path, quantized: &Path, device: &Device) -> Result<Self, Error> {
        let pair = Self {
            model: hf::load_frozen(model, device)?,
            quantized: hf::load_frozen(quantized, device)?,
            device: device.clone(),
        };
        if pair.model.architecture != pair.quantized.architecture {
            let (model, other) = (model.to_owned(), quantized.to_owned());
            return Err(Error::Different { model, other });
        }
        Ok(pair)
    }

    /// The shape of both.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.model.architecture
    }

    /// Runs both forms over a text, sequence by sequence; tells `progress` the sequences done.
    ///
    /// # Errors
    ///
    /// A token is not in the vocabulary, or there is none to predict.
    pub fn certify(
        &self,
        text: &Text,
        mut progress: impl FnMut(usize),
    ) -> Result<SourceReport, Error> {
        text.check(self.model.architecture.vocab_size)?;
        let mut figures = Figures::default();
        for (done, batch) in text.batches().iter().enumerate() {
            self.run(batch, &mut figures);
            progress(done + 1);
        }
        Ok(report(text, &figures))
    }

    fn run(&self, batch: &MicroBatch, figures: &mut Figures) {
        let architecture = &self.model.architecture;
        let (t, head) = (batch.sequence_length, architecture.head_dim as usize);
        let rope = RopeTable::new(t, head, architecture.rope_theta, &self.device);
        let (positions, segments) = (&batch.positions, &batch.segments);
        let shape = [batch.rows, t];
        let context =
            SequenceContext::new(architecture, &rope, positions, segments, shape, &self.device);
        let hidden = [&self.model, &self.quantized].map(|model| {
            let ids = TensorData::new(batch.tokens.clone(), [batch.tokens.len()]);
            model.hidden_states(Tensor::<1, Int>::from_data(ids, &self.device), &context)
        });
        let width = architecture.vocab_size as usize;
        for (index, targets) in batch.targets.chunks(CHUNK_TOKENS).enumerate() {
            let first = index * CHUNK_TOKENS;
            let logits = |model: &FrozenLm, hidden: &Tensor<2>| -> Vec<f32> {
                let rows = hidden.clone().narrow(0, first, targets.len());
                // SYNC: rows are compared in the host's memory.
                model.lm_head.forward(rows).into_data().try_to_vec().expect("logits are f32")
            };
            let before = logits(&self.model, &hidden[0]);
            let after = logits(&self.quantized, &hidden[1]);
            figures.add(&compare(&before, &after, width, targets));
        }
    }
}

fn report(text: &Text, figures: &Figures) -> SourceReport {
    let tokens = figures.tokens as f64;
    let (before, after) = (figures.nats / tokens, figures.quantized_nats / tokens);
    let (ratio, agreement) = ((after - before).exp(), figures.agreements as f64 / tokens);
    SourceReport {
        source: text.name().to_owned(),
        path: text.path().to_owned(),
        held_out: text.is_held_out(),
        tokens: figures.tokens,
        nats_per_token: before,
        quantized_nats_per_token: after,
        perplexity_ratio: ratio,
        kl_nats_per_token: figures.kl / tokens,
        top_1_agreement: agreement,
        passed: ratio < PERPLEXITY_GATE && agreement > AGREEMENT_GATE,
    }
}
