//! The linear maps of a model, however their weights are stored.

use burn::tensor::Tensor;
use terrace_kernels::host::{Buffer, HostTensor, Matrix, MatrixMut, Threads, is_host, multiply};
use terrace_kernels::linear;

/// A linear map `x · wᵀ`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Projection {
    /// Weights as they are, `[out, in]`.
    Full(Tensor<2>),
}

impl Projection {
    /// Multiplies rows by the weights.
    ///
    /// # Shapes
    ///
    /// `x` `[rows, in]`; gives `[rows, out]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Full(weight) => {
                let device = x.device();
                if !is_host(&device) {
                    return linear(x, weight.clone());
                }
                let ([rows, inner], [out, _]) = (x.dims(), weight.dims());
                let (x, weight) = (HostTensor::new(x), HostTensor::new(weight.clone()));
                let mut y = Buffer::any(rows * out);
                multiply(
                    MatrixMut::new(&mut y, rows, out),
                    false,
                    Matrix::new(&x, rows, inner),
                    Matrix::new(&weight, out, inner).transposed(),
                    1.0,
                    Threads::All,
                );
                y.into_tensor([rows, out], &device)
            }
        }
    }
}
