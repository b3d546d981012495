//! The cross entropy of rows of logits.

use burn::tensor::activation::log_softmax;
use burn::tensor::{FloatDType, IndexingUpdateOp, Int, Tensor};

use super::kernel_or;

/// Gives the nats of each row, 0 where it is masked, and, where it is asked for, the gradient of their
/// sum with respect to the logits.
///
/// The kernel writes the gradient in the logits' place where nobody shares them.
///
/// # Shapes
///
/// `logits` `[rows, v]`, `targets` `[rows]` (any valid id where masked), `mask` `[rows]` with 1 for rows
/// that count and 0 for the others; gives `[rows]`, f32, and `[rows, v]`.
#[must_use]
pub fn cross_entropy_rows(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    mask: Tensor<1>,
    with_gradients: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    kernel_or!(
        super::runs(&logits.device()),
        crate::cube::cross_entropy(logits, targets, mask, with_gradients),
        composed(logits, targets, mask, with_gradients)
    )
}

fn composed(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    mask: Tensor<1>,
    with_gradients: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    let [count, _] = logits.dims();
    let (y, keep) = (targets.reshape([count, 1]), mask.reshape([count, 1]));
    let dtype = logits.dtype();
    let log_p = log_softmax(logits.cast(FloatDType::F32), 1);
    let nats = (log_p.clone().gather(1, y.clone()) * keep.clone()).neg().reshape([count]);
    let slope = with_gradients.then(|| {
        let minus_one = keep.ones_like().neg();
        log_p.exp().scatter(1, y, minus_one, IndexingUpdateOp::Add).mul(keep).cast(dtype)
    });
    (nats, slope)
}
