//! Norm and MLP. No row needs another, so where they are run again, it is some rows at a time.
//!
//! Then `[rows, f]` exists for those rows rather than for the micro-batch (the idea of the tiled MLP in Bekman et al. 2025, Arctic Long Sequence Training, arXiv 2506.13996).

use burn::tensor::{Device, Tensor};
use terrace_config::MLP_TILE_ROWS;
use terrace_kernels::host::{
    Buffer, HostTensor, gate_backward, gate_forward, norm_backward, norm_forward,
};

use super::super::Layer;
use super::norm_gradient;
use super::weight::Weight;

/// What the backward pass of some rows needs.
#[derive(Debug)]
struct Tile {
    /// `[rows, d]`.
    normed: Buffer,
    /// `[rows, f]`.
    gate: Buffer,
    up: Buffer,
    product: Buffer,
}

/// What the backward pass of norm and MLP needs; without a tile of all rows they are run again.
#[derive(Debug)]
pub(super) struct MlpTape {
    tile: Option<Tile>,
    /// The residual before them, `[b·t, d]`, and its scale, `[b·t]`.
    pub(super) middle: Buffer,
    pub(super) scale: Vec<f32>,
}

/// The weights.
pub(super) struct Mlp {
    norm: HostTensor,
    gate: Weight,
    up: Weight,
    down: Weight,
}

impl MlpTape {
    /// A tape that holds no more than the input.
    pub(super) fn to_run_again(middle: Buffer, scale: Vec<f32>) -> Self {
        Self { tile: None, middle, scale }
    }
}

impl Mlp {
    pub(super) fn of(layer: &Layer) -> Self {
        Self {
            norm: HostTensor::new(layer.post_attention_layernorm.clone()),
            gate: Weight::new(&layer.gate_proj),
            up: Weight::new(&layer.up_proj),
            down: Weight::new(&layer.down_proj),
        }
    }

    /// Gives the residual after the MLP, `[b·t, d]`.
    pub(super) fn forward(&self, middle: &[f32], scale: &[f32]) -> Buffer {
        let mut output = Buffer::any(middle.len());
        let stride = MLP_TILE_ROWS * self.norm.len();
        let rows = middle.chunks(stride).zip(scale.chunks(MLP_TILE_ROWS));
        for ((middle, scale), output) in rows.zip(output.chunks_mut(stride)) {
            self.run(middle, scale, output);
        }
        output
    }

    /// Gives the residual after the MLP, `[b·t, d]`, and all that the backward pass needs.
    pub(super) fn forward_taped(&self, middle: Buffer, scale: Vec<f32>) -> (Buffer, MlpTape) {
        let mut output = Buffer::any(middle.len());
        let tile = self.run(&middle, &scale, &mut output);
        (output, MlpTape { tile: Some(tile), middle, scale })
    }

    fn run(&self, middle: &[f32], scale: &[f32], output: &mut [f32]) -> Tile {
        let tile = self.tile(middle, scale);
        output.copy_from_slice(middle);
        self.down.project_to(&tile.product, output, true);
        tile
    }

    fn tile(&self, middle: &[f32], scale: &[f32]) -> Tile {
        let normed = norm_forward(middle, scale, &self.norm);
        let (gate, up) = (self.gate.project(&normed), self.up.project(&normed));
        let product = gate_forward(&gate, &up);
        Tile { normed, gate, up, product }
    }

    /// The gradients of norm, gate, up and down; adds its own to the residual's.
    pub(super) fn backward(
        &self,
        tape: MlpTape,
        residual: &mut [f32],
        device: &Device,
    ) -> [Tensor<2>; 4] {
        let MlpTape { mut tile, middle, scale } = tape;
        let at_once = if tile.is_some() { scale.len() } else { MLP_TILE_ROWS };
        let weights = [&self.gate, &self.up, &self.down];
        let mut sums = weights.map(Weight::gradient_buffer);
        let mut dw_norm = vec![0.0; self.norm.len()];
        let stride = at_once * self.norm.len();
        let rows = middle.chunks(stride).zip(scale.chunks(at_once));
        for (i, ((middle, scale), residual)) in rows.zip(residual.chunks_mut(stride)).enumerate() {
            let tile = tile.take().unwrap_or_else(|| self.tile(middle, scale));
            let slope = self.tile_backward(tile, residual, &mut sums, i > 0);
            let part = norm_backward(middle, scale, &self.norm, &slope, residual);
            dw_norm.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let [gate, up, down] = sums;
        [
            norm_gradient(dw_norm, device),
            self.gate.gradient_tensor(gate),
            self.up.gradient_tensor(up),
            self.down.gradient_tensor(down),
        ]
    }

    /// Puts the gradients of gate, up and down in `sums`, or adds them; gives the norm's output's.
    fn tile_backward(
        &self,
        tile: Tile,
        residual: &[f32],
        [d_gate, d_up, d_down]: &mut [Buffer; 3],
        add: bool,
    ) -> Buffer {
        let Tile { mut normed, mut gate, mut up, mut product } = tile;
        self.down.gradient_to(residual, &product, d_down, add);
        self.down.upstream(residual, &mut product, false);
        gate_backward(&mut gate, &mut up, &product);
        self.gate.gradient_to(&gate, &normed, d_gate, add);
        self.up.gradient_to(&up, &normed, d_up, add);
        self.gate.upstream(&gate, &mut normed, false);
        self.up.upstream(&up, &mut normed, true);
        normed
    }
}
