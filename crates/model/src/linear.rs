//! A linear product whose weights have one of two forms.

use burn::tensor::Tensor;
use terrace_kernels::host::{HostTensor, is_host, linear_forward};
use terrace_kernels::{Int8Matrix, linear};

/// The weights of a linear product, `[out, in]`, that are only read.
#[derive(Clone, Debug)]
pub enum Linear {
    /// Floats, on a device.
    Float(Tensor<2>),
    /// Eight-bit integers with scales, in the host's memory.
    Int8(Int8Matrix),
}

impl Linear {
    /// Multiplies rows by the transposed weights.
    ///
    /// # Shapes
    ///
    /// `x` `[rows, in]`; gives `[rows, out]`.
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Float(weight) if is_host(&x.device()) => on_host(x, weight),
            Self::Float(weight) => linear(x, weight.clone()),
            Self::Int8(weight) => weight.linear(x),
        }
    }

    /// The extents `[out, in]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Float(weight) => weight.dims(),
            Self::Int8(weight) => weight.shape(),
        }
    }

    /// The bytes that every product reads: floats are f32, integers have their scales.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Float(weight) => 4 * weight.dims().iter().product::<usize>(),
            Self::Int8(weight) => weight.bytes(),
        }
    }
}

/// The product without a transposed copy of the weights.
fn on_host(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let (device, [rows, inner], [out, _]) = (x.device(), x.dims(), weight.dims());
    let (x, weight) = (HostTensor::new(x), HostTensor::new(weight.clone()));
    linear_forward(&x, &weight, inner).into_tensor([rows, out], &device)
}
