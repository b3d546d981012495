//! A linear product whose weights have one of three forms.

use burn::tensor::Tensor;
use terrace_kernels::host::{HostTensor, holds_f32, is_host, linear_forward};
use terrace_kernels::{Int8Matrix, Int8Tensor, linear};

use crate::Precision;

/// The weights of a linear product, `[out, in]`, that are only read.
#[derive(Clone, Debug)]
pub enum Linear {
    /// Floats, on a device.
    Float(Tensor<2>),
    /// Eight-bit integers with scales, in the host's memory.
    Int8(Int8Matrix),
    /// Eight-bit integers with scales, on a device.
    Int8OnDevice(Box<Int8Tensor>),
}

impl Linear {
    /// Puts integers where products of this precision on this device read them.
    #[must_use]
    pub fn int8(matrix: Int8Matrix, device: &burn::tensor::Device, precision: Precision) -> Self {
        if is_host(device) && precision == Precision::F32 {
            Self::Int8(matrix)
        } else {
            Self::Int8OnDevice(Box::new(Int8Tensor::new(&matrix, device)))
        }
    }

    /// Multiplies rows by the transposed weights.
    ///
    /// # Shapes
    ///
    /// `x` `[rows, in]`; gives `[rows, out]`, of the same element type.
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Float(weight) if holds_f32(&x) => on_host(x, weight),
            Self::Float(weight) => linear(x, weight.clone()),
            Self::Int8(weight) => weight.linear(x),
            Self::Int8OnDevice(weight) => weight.linear(x),
        }
    }

    /// The extents `[out, in]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Float(weight) => weight.dims(),
            Self::Int8(weight) => weight.shape(),
            Self::Int8OnDevice(weight) => weight.shape(),
        }
    }

    /// The bytes that every product reads; integers have their scales.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Float(weight) => weight.dtype().size() * weight.dims().iter().product::<usize>(),
            Self::Int8(weight) => weight.bytes(),
            Self::Int8OnDevice(weight) => weight.bytes(),
        }
    }
}

/// The product without a transposed copy of the weights.
fn on_host(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let (device, [rows, inner], [out, _]) = (x.device(), x.dims(), weight.dims());
    let (x, weight) = (HostTensor::new(x), HostTensor::new(weight.clone()));
    linear_forward(&x, &weight, inner).into_tensor([rows, out], &device)
}
