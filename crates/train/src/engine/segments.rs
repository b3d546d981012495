//! The layers' forward pass, recorded, and its backward pass, one layer at a time.

use burn::tensor::Tensor;
use terrace_model::{CausalLm, Layer, LayerTape, Segment, SequenceContext};
use tracing::trace_span;

use super::micro_batch::DeviceBatch;
use super::{Engine, GradientSink};

/// What the forward pass leaves for the backward pass, from the bottom layer up.
pub(super) struct Tape {
    layers: Vec<Record>,
    contexts: Contexts,
}

/// What the layers share, for a pass without gradients and for one with them.
struct Contexts {
    plain: SequenceContext,
    /// None where layers write their own derivatives out.
    tracked: Option<SequenceContext>,
}

/// What is left of one layer.
#[expect(clippy::large_enum_variant, reason = "a handful of handles per layer, made once a pass")]
enum Record {
    /// Its input, `[b·t, d]`: the layer is run again.
    Input(Tensor<2>),
    /// What its backward pass needs.
    Kept(Kept),
}

/// A layer's forward pass, ready for its backward pass.
enum Kept {
    /// What the layer's own derivative needs.
    Tape(LayerTape),
    /// The graph of automatic differentiation.
    Graph(Graph),
}

/// A layer's forward pass with the leaves that gradients are asked for.
struct Graph {
    input: Tensor<2>,
    parameters: Vec<Tensor<2>>,
    output: Tensor<2>,
}

impl Tape {
    /// Runs all layers from `x`; gives the tape and the topmost output, detached.
    pub(super) fn record(
        engine: &Engine,
        model: &CausalLm,
        batch: &DeviceBatch<'_>,
        mut x: Tensor<2>,
    ) -> (Self, Tensor<2>) {
        let contexts = Contexts::new(engine, batch);
        let recomputed = model.layers.len().saturating_sub(engine.settings.kept_layers);
        let mut layers = Vec::with_capacity(model.layers.len());
        for (index, layer) in model.layers.iter().enumerate() {
            let _layer = trace_span!("layer", index).entered();
            if index < recomputed {
                // A graph that no backward pass consumes would stay until the next one: no autodiff.
                let output = layer.forward(&engine.architecture, x.clone(), &contexts.plain);
                layers.push(Record::Input(x));
                x = output;
            } else {
                let kept;
                (x, kept) = contexts.keep(engine, layer, x);
                layers.push(Record::Kept(kept));
            }
        }
        (Self { layers, contexts }, x)
    }

    /// Takes the gradients from the top layer down; gives the upstream of the embedding.
    pub(super) fn unwind(
        mut self,
        engine: &Engine,
        model: &CausalLm,
        _batch: &DeviceBatch<'_>,
        mut upstream: Tensor<2>,
        sink: &mut impl GradientSink,
    ) -> Tensor<2> {
        while let Some(record) = self.layers.pop() {
            let index = self.layers.len();
            let layer = &model.layers[index];
            let _layer = trace_span!("layer", index).entered();
            let kept = match record {
                Record::Kept(kept) => kept,
                Record::Input(x) => {
                    trace_span!("again").in_scope(|| self.contexts.again(engine, layer, x))
                }
            };
            let gradients;
            (gradients, upstream) = match kept {
                Kept::Tape(tape) => {
                    layer.backward(&engine.architecture, tape, upstream, &self.contexts.plain)
                }
                Kept::Graph(graph) => graph.backward(upstream),
            };
            sink.accept(Segment::Layer(index), gradients);
        }
        upstream
    }
}

impl Contexts {
    fn new(engine: &Engine, batch: &DeviceBatch<'_>) -> Self {
        let context = |device| batch.context(&engine.architecture, &engine.rope, device);
        let plain = context(&engine.device);
        let tracked = (!plain.has_tapes()).then(|| context(&engine.tracked));
        Self { plain, tracked }
    }

    /// Runs a layer for its gradients; gives its output, detached, and what is kept of it.
    fn keep(&self, engine: &Engine, layer: &Layer, x: Tensor<2>) -> (Tensor<2>, Kept) {
        match &self.tracked {
            None => {
                let (output, tape) = layer
                    .forward_taped(&engine.architecture, &x, &self.plain)
                    .expect("the context has tapes");
                (output, Kept::Tape(tape))
            }
            Some(tracked) => {
                let graph = Graph::build(engine, layer, x, tracked);
                (graph.output.clone().inner(), Kept::Graph(graph))
            }
        }
    }

    /// Runs a layer again, whose output is known, for its gradients.
    fn again(&self, engine: &Engine, layer: &Layer, x: Tensor<2>) -> Kept {
        match &self.tracked {
            None => {
                let tape = layer.retape(&engine.architecture, &x, &self.plain);
                Kept::Tape(tape.expect("the context has tapes"))
            }
            Some(tracked) => Kept::Graph(Graph::build(engine, layer, x, tracked)),
        }
    }
}

impl Graph {
    fn build(engine: &Engine, layer: &Layer, x: Tensor<2>, context: &SequenceContext) -> Self {
        let leaf = |tensor| Tensor::from_inner(tensor).require_grad();
        let input: Tensor<2> = leaf(x);
        let parameters: Vec<Tensor<2>> = layer.parameters().into_iter().map(leaf).collect();
        let tracked = Layer::from_parameters(parameters.clone());
        let output = tracked.forward(&engine.architecture, input.clone(), context);
        Self { input, parameters, output }
    }

    /// The chain rule: the gradient of `sum(output · upstream)` is the gradient of the loss.
    fn backward(self, upstream: Tensor<2>) -> (Vec<Tensor<2>>, Tensor<2>) {
        let Self { input, parameters, output } = self;
        let mut graph = (output * Tensor::from_inner(upstream)).sum().backward();
        let mut take =
            |leaf: &Tensor<2>| leaf.grad_remove(&mut graph).expect("every leaf has a gradient");
        let gradients = parameters.iter().map(&mut take).collect();
        (gradients, take(&input))
    }
}
