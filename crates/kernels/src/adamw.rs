//! AdamW on one parameter tensor.

use burn::tensor::Tensor;

/// The constants of one AdamW update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The decay of the first moment.
    pub beta1: f64,
    /// The decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay; 0 for tensors that do not decay.
    pub weight_decay: f64,
    /// The number of this update, counted from 1.
    pub step: u64,
}

/// The running moments of one parameter tensor, in its shape.
#[derive(Clone, Debug)]
pub struct Moments {
    /// The running mean of the gradient.
    pub first: Tensor<2>,
    /// The running mean of the squared gradient.
    pub second: Tensor<2>,
}

/// Applies one update; gives the new parameter and the new moments.
///
/// `gradient_scale` multiplies the gradient first (loss normalisation and clipping in one factor).
///
/// # Source
///
/// Loshchilov and Hutter 2019 (arXiv 1711.05101), in the order of operations of
/// `torch.optim.AdamW`: decay first, `epsilon` added after the bias correction of the root.
#[must_use]
pub fn adamw_step(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step } = constants;
    let gradient = gradient * gradient_scale;
    let first = moments.first * beta1 + gradient.clone() * (1.0 - beta1);
    let second = moments.second * beta2 + gradient.square() * (1.0 - beta2);
    let correction1 = 1.0 - beta1.powf(step as f64);
    let correction2 = 1.0 - beta2.powf(step as f64);
    let root = second.clone().sqrt() * (1.0 / correction2.sqrt()) + epsilon;
    let decayed = parameter * (1.0 - learning_rate * weight_decay);
    let updated = decayed - first.clone() * (learning_rate / correction1) / root;
    (updated, Moments { first, second })
}
