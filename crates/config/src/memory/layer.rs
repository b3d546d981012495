//! The tensors of one layer, by operation: the table to change when an operation changes.

use super::Extents;

/// How many rows of a micro-batch the fused layer's MLP works on together where it is run again.
///
/// Rows of fewer make the products slower: of 256, 3 to 8%.
pub const MLP_TILE_ROWS: usize = 512;

/// The two ways in which a layer is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerForm {
    /// On the host, written out (`model/src/layer/fused.rs`): buffers go back to a store that keeps
    /// them, so whatever the layer ever holds adds up, and the next layer uses it again.
    Fused,
    /// On other devices, composed operations on Burn's autodiff: what a graph keeps is given up as
    /// the backward pass consumes it.
    Composed,
}

/// One kind of tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is.
    pub name: &'static str,
    /// How many numbers it has.
    pub elements: u128,
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
    pub(super) fn new(form: LayerForm, e: &Extents) -> Self {
        match form {
            LayerForm::Fused => fused(e),
            LayerForm::Composed => composed(e),
        }
    }

    /// The numbers that are kept for the backward pass.
    #[must_use]
    pub fn kept(&self) -> u128 {
        sum(&self.attention_kept) + sum(&self.mlp_kept)
    }

    /// The most of it that is there at one time where every layer is run again: the fused layer's MLP
    /// goes by [`MLP_TILE_ROWS`] of the `tokens`.
    pub(super) fn run_again(&self, form: LayerForm, tokens: u128) -> u128 {
        let mlp = match form {
            LayerForm::Fused => {
                sum(&self.mlp_kept) * tokens.min(MLP_TILE_ROWS as u128) / tokens.max(1)
            }
            LayerForm::Composed => sum(&self.mlp_kept),
        };
        sum(&self.attention_kept) + mlp
    }

    /// The most that the backward pass holds besides what is kept.
    ///
    /// By the time of the attention, what the MLP kept is gone from a graph, but not from the store.
    pub(super) fn working(&self, form: LayerForm) -> u128 {
        let (attention, mlp) = (sum(&self.attention_working), sum(&self.mlp_working));
        match form {
            LayerForm::Fused => attention + mlp,
            LayerForm::Composed => mlp.max(attention.saturating_sub(sum(&self.mlp_kept))),
        }
    }
}

// What `LayerTape` names, and what `backward_fused` asks the store for; the MLP's part is changed in
// place.
fn fused(e: &Extents) -> LayerGraph {
    LayerGraph {
        attention_kept: vec![
            term("norm: normalised", e.residual),
            term("rotated queries", e.query),
            term("rotated keys, values", 2 * e.key_value),
            term("attention output", e.query),
            term("log-sums of the scores, the norm's scale", e.heads + e.tokens),
            term("residual after attention, its norm's scale", e.residual + e.tokens),
        ],
        mlp_kept: vec![
            term("norm: normalised", e.residual),
            term("gate, up, their product", 3 * e.mlp),
        ],
        attention_working: vec![
            term("gradient of the attention output", e.query),
            term("gradients of queries, keys, values, by query head", 3 * e.query),
            term("the same, gathered", e.query + 2 * e.key_value),
        ],
        mlp_working: vec![term("gradient of the residual", e.residual)],
    }
}

// What Burn's autodiff keeps of each operation: of a product both factors, of a quotient both
// sides, of an exponential its argument, of a sum or a rotation nothing.
fn composed(e: &Extents) -> LayerGraph {
    LayerGraph {
        attention_kept: vec![
            term("norm: normalised, scaled", 2 * e.residual),
            term("rotated queries", e.query),
            term("rotated keys, values", 2 * e.key_value),
            term("scores less their maximum", e.scores),
            term("exponentials of the scores", e.scores),
            term("probabilities", e.scores),
            term("attention output", e.query),
        ],
        mlp_kept: vec![
            term("residual after attention", e.residual),
            term("norm: normalised, scaled", 2 * e.residual),
            term("gate, its sigmoid, their product", 3 * e.mlp),
            term("up", e.mlp),
            term("input of the down projection", e.mlp),
        ],
        // When the product's backward pass is done the probabilities are gone, and the quotient's
        // takes two: three kept and one, then two kept and two.
        attention_working: vec![term("gradient of the probabilities", e.scores)],
        mlp_working: vec![
            term("gradients of product, gate, its sigmoid and up", 4 * e.mlp),
            term("gradients of the residual", 2 * e.residual),
        ],
    }
}

fn term(name: &'static str, elements: u128) -> Term {
    Term { name, elements }
}

fn sum(terms: &[Term]) -> u128 {
    terms.iter().map(|term| term.elements).sum()
}
