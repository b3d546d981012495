//! Root-mean-square normalisation.

use burn::tensor::Tensor;

/// Scales each row to unit root mean square, then by `weight`.
///
/// # Shapes
///
/// `x` `[rows, d]`, `weight` `[1, d]`.
///
/// # Source
///
/// Zhang and Sennrich 2019 (arXiv 1910.07467), with `epsilon` inside the root as Hugging Face's
/// `LlamaRMSNorm` has it.
#[must_use]
pub fn rms_norm(x: Tensor<2>, weight: Tensor<2>, epsilon: f64) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1);
    x * (mean_square + epsilon).sqrt().recip() * weight
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

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
}
