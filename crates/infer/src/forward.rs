//! New positions through the layers.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use terrace_config::Architecture;
use terrace_kernels::host::{HostTensor, Rotations, gate_forward, holds_f32, rotate};
use terrace_kernels::{RopeTable, rms_norm, rope, swiglu};
use terrace_model::{FrozenLayer, FrozenLm};
use tracing::trace_span;

use crate::cache::{Cache, Plan, Span};

/// A model, its cache, and how rows are put together.
pub(crate) struct Runner {
    pub(crate) model: FrozenLm,
    pub(crate) cache: Cache,
    rope: RopeTable,
    device: Device,
    /// Every row goes through every operation alone.
    row_by_row: bool,
}

/// Rows that go through the operations together.
struct Rows {
    plan: Plan,
    x: Tensor<2>,
    turns: Turns,
}

/// The rotations of some rows.
enum Turns {
    Host(Rotations),
    /// Cosines and sines.
    Device(Box<[Tensor<4>; 2]>),
}

impl Runner {
    pub(crate) fn new(model: FrozenLm, cache: Cache, length: usize, row_by_row: bool) -> Self {
        let device = model.device();
        let Architecture { head_dim, rope_theta, .. } = model.architecture;
        let rope = RopeTable::new(length, head_dim as usize, rope_theta, &device);
        Self { model, cache, rope, device, row_by_row }
    }

    /// Computes the positions of the spans and keeps their keys and values; gives the last residual
    /// stream, in pieces of rows as they were put together.
    ///
    /// Layer by layer whatever the pieces, so that a layer's weights are read once where they stay
    /// in a cache of the processor.
    pub(crate) fn run(&mut self, tokens: &[u32], spans: &[Span]) -> Vec<Tensor<2>> {
        // Prompts are read where a sequence has more than one new position.
        let is_decode = spans.iter().all(|span| span.count == 1);
        let (positions, sequences) = (tokens.len(), spans.len());
        let _pass = if is_decode {
            trace_span!("decode", positions, sequences).entered()
        } else {
            trace_span!("prefill", positions, sequences).entered()
        };
        let mut pieces = self.pieces(tokens, spans);
        let architecture = &self.model.architecture;
        for (index, layer) in self.model.layers.iter().enumerate() {
            let _layer = trace_span!("layer", index).entered();
            for rows in &mut pieces {
                run_layer(architecture, layer, index, rows, &mut self.cache);
            }
        }
        pieces.into_iter().map(|rows| rows.x).collect()
    }

    /// The logits of some rows of the residual stream, `[rows, v]` row-major.
    pub(crate) fn logits(&self, x: Tensor<2>) -> Vec<f32> {
        let _head = trace_span!("head").entered();
        let [rows, _] = x.dims();
        let epsilon = self.model.architecture.rms_norm_eps;
        let of = |x: Tensor<2>| {
            let normed = rms_norm(x, self.model.norm.clone(), epsilon);
            let logits = self.model.lm_head.forward(normed).cast(FloatDType::F32);
            logits.into_data().try_to_vec::<f32>().expect("logits are f32")
        };
        if self.row_by_row {
            (0..rows).flat_map(|row| of(x.clone().narrow(0, row, 1))).collect()
        } else {
            of(x)
        }
    }

    fn pieces(&self, tokens: &[u32], spans: &[Span]) -> Vec<Rows> {
        if !self.row_by_row {
            return vec![self.rows(tokens, spans.to_vec())];
        }
        let single = |span: &Span| {
            let Span { slot, start, count } = *span;
            (start..start + count).map(move |start| Span { slot, start, count: 1 })
        };
        spans
            .iter()
            .flat_map(single)
            .zip(tokens)
            .map(|(span, token)| self.rows(&[*token], vec![span]))
            .collect()
    }

    fn rows(&self, tokens: &[u32], spans: Vec<Span>) -> Rows {
        let count = tokens.len();
        let integers = |values: Vec<i32>| -> Tensor<1, Int> {
            Tensor::from_data(TensorData::new(values, [count]), &self.device)
        };
        let ids = integers(tokens.iter().map(|token| *token as i32).collect());
        let x = self.model.embed_tokens.clone().select(0, ids);
        let positions = spans.iter().flat_map(|span| span.start..span.start + span.count);
        let positions = integers(positions.map(|position| position as i32).collect());
        let (cos, sin) = self.rope.lookup(positions, [1, count]);
        let turns = if holds_f32(&x) {
            let half = cos.dims()[3];
            let host = |x: Tensor<4>| HostTensor::new(x).to_vec();
            Turns::Host(Rotations { cos: host(cos), sin: host(sin), half })
        } else {
            Turns::Device(Box::new([cos, sin]))
        };
        Rows { plan: self.cache.plan(spans), x, turns }
    }
}

fn run_layer(
    architecture: &Architecture,
    layer: &FrozenLayer,
    index: usize,
    rows: &mut Rows,
    cache: &mut Cache,
) {
    let epsilon = architecture.rms_norm_eps;
    let head = architecture.head_dim as usize;
    let x = rows.x.clone();
    let normed = rms_norm(x.clone(), layer.input_layernorm.clone(), epsilon);
    let q = turn(layer.q_proj.forward(normed.clone()), &rows.turns, head);
    let k = turn(layer.k_proj.forward(normed.clone()), &rows.turns, head);
    let v = layer.v_proj.forward(normed);
    let mixed = trace_span!("scores").in_scope(|| cache.attend(index, &rows.plan, q, k, v));
    let x = x + layer.o_proj.forward(mixed);
    let normed = rms_norm(x.clone(), layer.post_attention_layernorm.clone(), epsilon);
    let (gate, up) = (layer.gate_proj.forward(normed.clone()), layer.up_proj.forward(normed));
    rows.x = x + layer.down_proj.forward(gated(gate, up));
}

fn turn(x: Tensor<2>, turns: &Turns, head: usize) -> Tensor<2> {
    let [rows, width] = x.dims();
    match turns {
        Turns::Host(rotations) => HostTensor::change(x, |x| rotate(x, rotations, false)),
        Turns::Device(turns) => {
            let [cos, sin] = &**turns;
            rope(x.reshape([1, rows, width / head, head]), cos.clone(), sin.clone())
                .reshape([rows, width])
        }
    }
}

fn gated(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if !holds_f32(&gate) {
        return swiglu(gate, up);
    }
    let (device, shape) = (gate.device(), gate.dims());
    gate_forward(&HostTensor::new(gate), &HostTensor::new(up)).into_tensor(shape, &device)
}
