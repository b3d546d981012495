//! Root-mean-square normalisation.

use burn::tensor::{FloatDType, Tensor};

use crate::host::{
    Buffer, HostTensor, holds_f32, is_host, norm_backward, norm_forward, norm_scale,
};

/// Scales each row to unit root mean square, then by `weight`.
///
/// # Shapes
///
/// `x` `[rows, d]`, `weight` `[1, d]`; gives what `x` is, of its element type.
///
/// # Source
///
/// Zhang and Sennrich 2019 (arXiv 1910.07467), with `epsilon` inside the root as Hugging Face's
/// `LlamaRMSNorm` has it.
#[must_use]
pub fn rms_norm(x: Tensor<2>, weight: Tensor<2>, epsilon: f64) -> Tensor<2> {
    if holds_f32(&x) {
        let (device, shape) = (x.device(), x.dims());
        let (x, weight) = (HostTensor::new(x), HostTensor::new(weight));
        return norm_forward(&x, &norm_scale(&x, shape[1], epsilon), &weight)
            .into_tensor(shape, &device);
    }
    let dtype = x.dtype();
    // NUMERICS: in f32 whatever comes in and goes out.
    let (x, weight) = (x.cast(FloatDType::F32), weight.cast(FloatDType::F32));
    let mean_square = x.clone().square().mean_dim(1);
    (x * (mean_square + epsilon).sqrt().recip() * weight).cast(dtype)
}

/// The gradients of [`rms_norm`] with respect to `x` and `weight`, given that of its result.
///
/// The tensors carry no autodiff.
///
/// # Shapes
///
/// `x` and `upstream` `[rows, d]`, `weight` `[1, d]`.
#[must_use]
pub fn rms_norm_backward(
    x: Tensor<2>,
    weight: Tensor<2>,
    epsilon: f64,
    upstream: Tensor<2>,
) -> (Tensor<2>, Tensor<2>) {
    let (device, shape) = (x.device(), x.dims());
    if !is_host(&device) {
        return written_out(x, weight, epsilon, upstream);
    }
    let (x, weight, dy) = (HostTensor::new(x), HostTensor::new(weight), HostTensor::new(upstream));
    let mut dx = Buffer::zeros(x.len());
    let dw = norm_backward(&x, &norm_scale(&x, shape[1], epsilon), &weight, &dy, &mut dx);
    dy.recycle();
    let dw = Buffer::from_vec(dw).into_tensor([1, shape[1]], &device);
    (dx.into_tensor(shape, &device), dw)
}

/// The same for any backend.
fn written_out(
    x: Tensor<2>,
    weight: Tensor<2>,
    epsilon: f64,
    upstream: Tensor<2>,
) -> (Tensor<2>, Tensor<2>) {
    let dtype = x.dtype();
    let (_, scales) = crate::device::norm_forward(x.clone(), weight.clone(), epsilon, dtype);
    crate::device::norm_backward(x, weight, scales, upstream, None)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    fn by_autodiff(
        x: Tensor<2>,
        weight: Tensor<2>,
        epsilon: f64,
        upstream: Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let [x, weight] = [x, weight].map(|leaf| Tensor::from_inner(leaf).require_grad());
        let normed = rms_norm(x.clone(), weight.clone(), epsilon);
        let mut graph = (normed * Tensor::from_inner(upstream)).sum().backward();
        let mut take =
            |leaf: &Tensor<2>| leaf.grad_remove(&mut graph).expect("every leaf has a gradient");
        (take(&x), take(&weight))
    }

    #[test]
    fn rows_have_unit_mean_square() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[3.0, 4.0], [-1.0, 1.0]], &device);
        let weight = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
        let y: Vec<f32> = rms_norm(x, weight, 0.0).into_data().try_to_vec().unwrap();
        let root = 12.5f32.sqrt();
        for (found, expected) in y.iter().zip([3.0 / root, 8.0 / root, -1.0, 2.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn all_forms_have_the_same_derivative() {
        let device = Device::flex();
        for shape @ [_, d] in [[1, 1], [3, 5], [70, 48]] {
            let random =
                |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let (x, weight, upstream) = (random(shape), random([1, d]), random(shape));
            let expected = by_autodiff(x.clone(), weight.clone(), 1e-5, upstream.clone());
            for form in [rms_norm_backward, written_out] {
                let found = form(x.clone(), weight.clone(), 1e-5, upstream.clone());
                for (a, b) in [(found.0, &expected.0), (found.1, &expected.1)] {
                    let size: f32 = b.clone().abs().max().into_scalar();
                    let difference: f32 = (a - b.clone()).abs().max().into_scalar();
                    assert!(difference <= 1e-5 * size.max(1.0), "{shape:?}: {difference}");
                }
            }
        }
    }
}
