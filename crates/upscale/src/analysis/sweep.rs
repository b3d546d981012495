//! One micro-batch through the base and through every candidate.

use burn::tensor::{Device, Int, Tensor, TensorData};
use terrace_data::MicroBatch;
use terrace_kernels::{RopeTable, linear, rms_norm};
use terrace_model::{CausalLm, SequenceContext};

use super::measure::SourceMeasured;
use super::rows::{LogProbabilities, to_host};

/// The number of tokens whose logits exist at one time.
const CHUNK_TOKENS: usize = 512;

/// Runs a model and its up-scaled candidates, without gradients.
///
/// A candidate that repeats `[a, b)` is the base up to layer `b`, so its run begins with what the
/// base's layer `b - 1` gave: `n - a` layers instead of `n + b - a`.
pub(super) struct Sweep<'a> {
    model: &'a CausalLm,
    device: &'a Device,
    rope: RopeTable,
    length: usize,
}

/// The tokens that count: those with a target that do not begin a document.
struct Tokens {
    counted: Vec<bool>,
    /// None where the token does not count.
    targets: Vec<Option<u32>>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        model: &'a CausalLm,
        device: &'a Device,
        sequence_length: usize,
        length: usize,
    ) -> Self {
        let a = &model.architecture;
        let rope = RopeTable::new(sequence_length, a.head_dim as usize, a.rope_theta, device);
        Self { model, device, rope, length }
    }

    /// Adds what a micro-batch shows to `measured`.
    pub(super) fn run(&self, batch: &MicroBatch, measured: &mut SourceMeasured) {
        let tokens = Tokens::of(batch);
        let context = self.context(batch);
        let (top, seams) = self.base(batch, &context, &tokens, measured);
        let tops: Vec<Tensor<2>> = seams
            .into_iter()
            .enumerate()
            .map(|(start, residual)| self.candidate(start, residual, &context, &tokens, measured))
            .collect();
        self.losses(&top, &tops, &tokens, measured);
    }

    /// Runs the base; gives its last residual stream and those at every candidate's seam.
    fn base(
        &self,
        batch: &MicroBatch,
        context: &SequenceContext,
        tokens: &Tokens,
        measured: &mut SourceMeasured,
    ) -> (Tensor<2>, Vec<Tensor<2>>) {
        let count = batch.tokens.len();
        let ids = TensorData::new(batch.tokens.clone(), [count]);
        let mut x = self.model.embed(Tensor::<1, Int>::from_data(ids, self.device));
        let mut seams = Vec::new();
        for (index, layer) in self.model.layers.iter().enumerate() {
            let out = layer.forward(&self.model.architecture, x.clone(), context);
            measured.base_layer(index, tokens.cosines(x, out.clone()));
            if index + 1 >= self.length {
                seams.push(out.clone());
            }
            x = out;
        }
        (x, seams)
    }

    /// Runs a candidate from its seam on; gives its last residual stream.
    fn candidate(
        &self,
        start: usize,
        seam: Tensor<2>,
        context: &SequenceContext,
        tokens: &Tokens,
        measured: &mut SourceMeasured,
    ) -> Tensor<2> {
        let layers = self.model.layers.iter().enumerate().skip(start);
        layers.fold(seam, |x, (source, layer)| {
            let out = layer.forward(&self.model.architecture, x.clone(), context);
            measured.placed_layer(start, source, tokens.cosines(x, out.clone()));
            out
        })
    }

    /// Takes losses and divergences in chunks of tokens, the base's logits once for all candidates.
    fn losses(
        &self,
        top: &Tensor<2>,
        tops: &[Tensor<2>],
        tokens: &Tokens,
        measured: &mut SourceMeasured,
    ) {
        let [rows, _] = top.dims();
        for begin in (0..rows).step_by(CHUNK_TOKENS) {
            let count = CHUNK_TOKENS.min(rows - begin);
            let targets = &tokens.targets[begin..begin + count];
            let logits = |top: &Tensor<2>| {
                let x = top.clone().narrow(0, begin, count);
                let epsilon = self.model.architecture.rms_norm_eps;
                let normed = rms_norm(x, self.model.norm.clone(), epsilon);
                linear(normed, self.model.output_projection())
            };
            let base = LogProbabilities::of(logits(top));
            let nats = base.nats(targets);
            measured.base_loss(targets.iter().zip(nats).filter_map(|(t, n)| t.map(|_| n)));
            for (start, top) in tops.iter().enumerate() {
                let figures = base.compare(logits(top), targets);
                let counted = targets.iter().zip(figures).filter_map(|(t, f)| t.map(|_| f));
                measured.loss(start, counted);
            }
        }
    }

    fn context(&self, batch: &MicroBatch) -> SequenceContext {
        SequenceContext::new(
            &self.model.architecture,
            &self.rope,
            &batch.positions,
            &batch.segments,
            [batch.rows, batch.sequence_length],
            self.device,
        )
    }
}

impl Tokens {
    fn of(batch: &MicroBatch) -> Self {
        let targets = batch
            .targets
            .iter()
            .zip(&batch.positions)
            .map(|(target, position)| u32::try_from(*target).ok().filter(|_| *position > 0));
        let targets: Vec<Option<u32>> = targets.collect();
        Self { counted: targets.iter().map(Option::is_some).collect(), targets }
    }

    /// The cosine between two residual streams, `[b·t, d]`, at the tokens that count.
    fn cosines(&self, x: Tensor<2>, y: Tensor<2>) -> Vec<f32> {
        let dot = to_host((x.clone() * y.clone()).sum_dim(1));
        let (xx, yy) = (to_host(x.square().sum_dim(1)), to_host(y.square().sum_dim(1)));
        let cosine = |i: usize| {
            let norms = (f64::from(xx[i]) * f64::from(yy[i])).sqrt();
            (f64::from(dot[i]) / norms.max(f64::MIN_POSITIVE)) as f32
        };
        (0..dot.len()).filter(|i| self.counted[*i]).map(cosine).collect()
    }
}
