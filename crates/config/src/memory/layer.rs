//! The tensors of one layer, by operation: the table to change when an operation changes.

use super::{Extents, F32};

/// How many rows of a micro-batch the fused layer's MLP works on together where it is run again.
///
/// Rows of fewer make the products slower: of 256, 3 to 8%.
pub const MLP_TILE_ROWS: usize = 512;

/// The ways in which a layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerForm {
    /// On the host in f32, written out (`model/src/layer/fused.rs`): buffers go back to a store that
    /// keeps them, so whatever the layer ever holds adds up, and the next layer uses it again.
    Fused,
    /// On devices, written out with kernels of ours (`model/src/layer/device.rs`).
    Kernels,
    /// The same composed of the tensor library's operations, for bf16 on the host: each gives its
    /// result beside what it took, and attention has its scores.
    Composed,
}

/// One kind of tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is.
    pub name: &'static str,
    /// Its size.
    pub bytes: u128,
}

/// The tensors that one layer's backward pass needs, by name. The layer's input is not among them:
/// it is the output of the layer below, and every layer's is kept, recomputed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerGraph {
    /// What the forward pass of norm and attention keeps.
    pub attention_kept: Vec<Term>,
    /// What the forward pass of norm and MLP keeps.
    pub mlp_kept: Vec<Term>,
    /// What the backward pass of attention and norm holds besides, at the worst moment.
    pub attention_working: Vec<Term>,
    /// What the backward pass of MLP and norm, which comes first, holds besides.
    pub mlp_working: Vec<Term>,
}

impl LayerGraph {
    pub(super) fn new(form: LayerForm, e: &Extents, product_bytes: u128) -> Self {
        match form {
            LayerForm::Fused => fused(e),
            LayerForm::Kernels => taped(e, product_bytes),
            LayerForm::Composed => composed(e, product_bytes),
        }
    }

    /// What is kept for the backward pass, in bytes.
    #[must_use]
    pub fn kept(&self) -> u128 {
        sum(&self.attention_kept) + sum(&self.mlp_kept)
    }

    /// The most of it that is there at one time where every layer is run again: the fused layer's MLP
    /// goes by [`MLP_TILE_ROWS`] of the `tokens`.
    pub(super) fn run_again(&self, form: LayerForm, tokens: u128) -> u128 {
        let mlp = sum(&self.mlp_kept);
        let mlp = match form {
            LayerForm::Fused => mlp * tokens.min(MLP_TILE_ROWS as u128) / tokens.max(1),
            LayerForm::Kernels | LayerForm::Composed => mlp,
        };
        sum(&self.attention_kept) + mlp
    }

    /// The most that the backward pass holds besides what is kept.
    ///
    /// By the time of the attention, what the MLP kept is gone from a tape, but not from the store.
    pub(super) fn working(&self, form: LayerForm) -> u128 {
        let (attention, mlp) = (sum(&self.attention_working), sum(&self.mlp_working));
        match form {
            LayerForm::Fused => attention + mlp,
            LayerForm::Kernels | LayerForm::Composed => {
                mlp.max(attention.saturating_sub(sum(&self.mlp_kept)))
            }
        }
    }
}

// What `LayerTape` names, and what `backward_fused` asks the store for; the MLP's part is changed in
// place.
fn fused(e: &Extents) -> LayerGraph {
    LayerGraph {
        attention_kept: vec![
            term("norm: normalised", F32 * e.residual),
            term("rotated queries", F32 * e.query),
            term("rotated keys, values", F32 * 2 * e.key_value),
            term("attention output", F32 * e.query),
            term("log-sums of the scores, the norm's scale", F32 * (e.heads + e.tokens)),
            term("residual after attention, its norm's scale", F32 * (e.residual + e.tokens)),
        ],
        mlp_kept: vec![
            term("norm: normalised", F32 * e.residual),
            term("gate, up, their product", F32 * 3 * e.mlp),
        ],
        attention_working: vec![
            term("gradient of the attention output", F32 * e.query),
            term("gradients of queries, keys, values, by query head", F32 * 3 * e.query),
            term("the same, gathered", F32 * (e.query + 2 * e.key_value)),
        ],
        mlp_working: vec![term("gradient of the residual", F32 * e.residual)],
    }
}

// What `DeviceTape` names, and what `backward_on_device` has at one time: `p` bytes for what products
// take and give, four for the residual and for what is kept of norms and scores.
fn taped(e: &Extents, p: u128) -> LayerGraph {
    LayerGraph {
        attention_kept: vec![
            term("rotated queries", p * e.query),
            term("rotated keys, values", p * 2 * e.key_value),
            term("attention output", p * e.query),
            term("log-sums of the scores, the norm's scale", F32 * (e.heads + e.tokens)),
        ],
        mlp_kept: vec![
            term("residual after attention, its norm's scale", F32 * (e.residual + e.tokens)),
            term("gate, up", p * 2 * e.mlp),
        ],
        attention_working: vec![
            term("gradients of the residual", (F32 + p) * e.residual),
            term("gradient of the attention output", p * e.query),
            term("gradients of queries, keys, values", p * (e.query + 2 * e.key_value)),
            term("norm: normalised, its gradients", p * 3 * e.residual),
        ],
        mlp_working: vec![
            term("gradients of the residual", (2 * F32 + p) * e.residual),
            term("gradient of the gated product", p * e.mlp),
            term("norm: normalised, its gradients", p * 3 * e.residual),
        ],
    }
}

fn composed(e: &Extents, p: u128) -> LayerGraph {
    let kept = taped(e, p);
    LayerGraph {
        // The weights and what becomes of the scores, and which of them count; queries, keys, values and
        // their gradients in f32.
        attention_working: vec![
            term("scores and weights", (2 * F32 + 1) * e.scores),
            term("queries, keys, values and gradients in f32", F32 * 4 * (e.query + e.key_value)),
            term("gradients of the residual", (F32 + p) * e.residual),
        ],
        // The gate's derivative is made in f32: gate, up, upstream, sigmoid, silu and the results as they
        // come.
        mlp_working: vec![
            term("gate, up and their gradients in f32", F32 * 7 * e.mlp),
            term("gradients of the residual", (2 * F32 + p) * e.residual),
        ],
        ..kept
    }
}

fn term(name: &'static str, bytes: u128) -> Term {
    Term { name, bytes }
}

fn sum(terms: &[Term]) -> u128 {
    terms.iter().map(|term| term.bytes).sum()
}
