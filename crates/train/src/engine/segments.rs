//! The layers' forward pass, recorded, and its backward pass, one layer at a time.

use burn::tensor::Tensor;
use terrace_model::{CausalLm, LayerTape, Segment, SequenceContext};
use tracing::trace_span;

use super::micro_batch::DeviceBatch;
use super::{Engine, GradientSink};

/// Without autodiff every context has them.
const TAPES: &str = "layers write their own derivatives out";

/// What the forward pass leaves for the backward pass, from the bottom layer up.
pub(super) struct Tape {
    layers: Vec<Record>,
    context: SequenceContext,
}

/// What is left of one layer.
#[expect(clippy::large_enum_variant, reason = "a handful of handles per layer, made once a pass")]
enum Record {
    /// Its input, `[b·t, d]`: the layer is run again.
    Input(Tensor<2>),
    /// What its backward pass needs.
    Kept(LayerTape),
}

impl Tape {
    /// Runs all layers from `x`; gives the tape and the topmost output, detached.
    pub(super) fn record(
        engine: &Engine,
        model: &CausalLm,
        batch: &DeviceBatch<'_>,
        mut x: Tensor<2>,
    ) -> (Self, Tensor<2>) {
        let context = batch.context(engine);
        let recomputed = model.layers.len().saturating_sub(engine.settings.kept_layers);
        let mut layers = Vec::with_capacity(model.layers.len());
        for (index, layer) in model.layers.iter().enumerate() {
            let _layer = trace_span!("layer", index).entered();
            if index < recomputed {
                let output = layer.forward(&engine.architecture, x.clone(), &context);
                layers.push(Record::Input(x));
                x = output;
            } else {
                let kept = layer.forward_taped(&engine.architecture, &x, &context);
                let tape;
                (x, tape) = kept.expect(TAPES);
                layers.push(Record::Kept(tape));
            }
        }
        (Self { layers, context }, x)
    }

    /// Takes the gradients from the top layer down; gives the upstream of the embedding.
    pub(super) fn unwind(
        mut self,
        engine: &Engine,
        model: &mut CausalLm,
        mut upstream: Tensor<2>,
        sink: &mut impl GradientSink,
    ) -> Tensor<2> {
        while let Some(record) = self.layers.pop() {
            let index = self.layers.len();
            let layer = &model.layers[index];
            let _layer = trace_span!("layer", index).entered();
            let tape = match record {
                Record::Kept(tape) => tape,
                Record::Input(x) => trace_span!("again")
                    .in_scope(|| layer.retape(&engine.architecture, &x, &self.context))
                    .expect(TAPES),
            };
            let gradients;
            (gradients, upstream) =
                layer.backward(&engine.architecture, tape, upstream, &self.context);
            sink.accept(model, Segment::Layer(index), gradients);
        }
        upstream
    }
}
