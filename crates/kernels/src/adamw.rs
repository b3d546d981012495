//! AdamW on one parameter tensor.

use burn::tensor::Tensor;

use crate::host::{self, HostTensor, is_host};

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
    /// The product of all decays of the second moment so far, this one included: what is left of its
    /// beginning at zero. It is `beta2^step` where the decay never changes.
    pub beta2_product: f64,
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
    if is_host(&parameter.device()) {
        return on_host(parameter, gradient, gradient_scale, moments, constants);
    }
    #[cfg(feature = "cube")]
    if crate::cube::updates([&parameter, &gradient, &moments.first, &moments.second]) {
        return crate::cube::adamw(parameter, gradient, gradient_scale, moments, constants);
    }
    by_tensors(parameter, gradient, gradient_scale, moments, constants)
}

fn by_tensors(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, beta2_product } =
        constants;
    let gradient = gradient * gradient_scale;
    let first = moments.first * beta1 + gradient.clone() * (1.0 - beta1);
    let second = moments.second * beta2 + gradient.square() * (1.0 - beta2);
    let correction1 = 1.0 - beta1.powf(step as f64);
    let correction2 = 1.0 - beta2_product;
    let root = second.clone().sqrt() * (1.0 / correction2.sqrt()) + epsilon;
    let decayed = parameter * (1.0 - learning_rate * weight_decay);
    let updated = decayed - first.clone() * (learning_rate / correction1) / root;
    (updated, Moments { first, second })
}

/// The same in one pass, in the place of the parameter and its moments unless others share them.
fn on_host(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    let gradient = HostTensor::new(gradient);
    let (mut first, mut second) = (None, None);
    let updated = HostTensor::change(parameter, |parameter| {
        first = Some(HostTensor::change(moments.first, |first| {
            second = Some(HostTensor::change(moments.second, |second| {
                host::adamw(parameter, &gradient, gradient_scale, [first, second], constants);
            }));
        }));
    });
    gradient.recycle();
    let changed = "every change is made";
    (updated, Moments { first: first.expect(changed), second: second.expect(changed) })
}

/// The sum of the squares of each tensor's elements, in f64.
///
// NUMERICS: on the host a tensor is summed by pieces in f32, the pieces in f64; elsewhere a tensor is
// summed in f32 on its device.
#[must_use]
pub fn square_sums(tensors: Vec<Tensor<2>>) -> Vec<f64> {
    if tensors.first().is_none_or(|tensor| is_host(&tensor.device())) {
        return tensors.into_iter().map(|t| host::square_sum(&HostTensor::new(t))).collect();
    }
    let parts: Vec<Tensor<1>> = tensors.into_iter().map(|g| g.square().sum()).collect();
    let parts: Vec<f32> =
        Tensor::cat(parts, 0).into_data().try_to_vec().expect("gradients are f32");
    parts.into_iter().map(f64::from).collect()
}

/// Adds `b` to `a`, which changes in place where nobody shares it.
#[must_use]
pub fn accumulate(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    if !is_host(&a.device()) {
        return a + b;
    }
    let b = HostTensor::new(b);
    let sum = HostTensor::change(a, |a| host::add_assign(a, &b));
    b.recycle();
    sum
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn one_pass_does_what_the_composed_update_does() {
        let device = Device::flex();
        let constants = AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step: 3,
            beta2_product: 0.95f64.powi(3),
        };
        for shape in [[1, 1], [7, 13], [300, 257]] {
            let random = |low| Tensor::random(shape, Distribution::Uniform(low, 1.0), &device);
            let (p, g): (Tensor<2>, Tensor<2>) = (random(-1.0), random(-1.0));
            let moments = Moments { first: random(-1.0), second: random(0.0) };
            let before: Vec<f32> = p.clone().into_data().try_to_vec().unwrap();
            let one = on_host(p.clone(), g.clone(), 0.5, moments.clone(), constants);
            let other = by_tensors(p.clone(), g, 0.5, moments, constants);
            // What others hold does not change.
            assert_eq!(before, p.into_data().try_to_vec::<f32>().unwrap());
            for (a, b) in
                [(one.0, other.0), (one.1.first, other.1.first), (one.1.second, other.1.second)]
            {
                let difference: f32 = (a - b).abs().max().into_scalar();
                assert!(difference < 1e-6, "{shape:?}: {difference}");
            }
        }
    }

    #[test]
    fn squares_and_sums_agree_with_the_definition() {
        let device = Device::flex();
        let tensor =
            |n| Tensor::<1>::from_data(vec![2.0f32; n].as_slice(), &device).reshape([1, n]);
        assert_eq!(square_sums(vec![tensor(5), tensor(70_000)]), [20.0, 280_000.0]);
        let sum = accumulate(tensor(70_000), tensor(70_000));
        assert_eq!(square_sums(vec![sum]), [16.0 * 70_000.0]);
    }
}
