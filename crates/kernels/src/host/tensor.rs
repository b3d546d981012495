//! Tensors as slices, where their memory is the host's.

use std::ops::Deref;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::Buffer;

/// Whether reading a tensor of `device` is free: its memory is the host's.
#[cfg(feature = "flex")]
#[must_use]
pub fn is_host(device: &Device) -> bool {
    matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_))
}

/// Whether reading a tensor of `device` is free: its memory is the host's.
#[cfg(not(feature = "flex"))]
#[must_use]
pub fn is_host(_device: &Device) -> bool {
    false
}

/// Whether a tensor's elements are f32 in the host's memory, so that [`HostTensor`] takes it.
#[must_use]
pub fn holds_f32<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_host(&tensor.device()) && tensor.dtype() == DType::F32
}

/// The elements of a tensor of f32, row-major, shared with the tensor rather than copied.
#[derive(Clone, Debug)]
pub struct HostTensor {
    #[cfg(feature = "flex")]
    inner: burn::backend::flex::FlexTensor,
    #[cfg(not(feature = "flex"))]
    inner: std::convert::Infallible,
}

#[cfg(feature = "flex")]
impl HostTensor {
    /// Looks into a tensor.
    ///
    /// # Panics
    ///
    /// The tensor is not on the [host](is_host), or not of f32.
    #[must_use]
    pub fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        let inner = tensor
            .try_into_primitive::<burn::backend::Flex>()
            .expect("the tensor is in the host's memory");
        if inner.as_slice::<f32>().is_some() {
            return Self { inner };
        }
        Self { inner: inner.to_contiguous() }
    }

    fn slice(&self) -> &[f32] {
        self.inner.as_slice().expect("made contiguous, of f32")
    }

    /// Gives the elements away: copied if they are shared.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        Buffer::from_vec(self.inner.into_data().try_into_vec().expect("of f32"))
    }

    /// Puts the memory back for later use, if nobody else uses it.
    pub fn recycle(self) {
        if self.inner.is_unique() {
            drop(self.into_buffer());
        }
    }
}

#[cfg(not(feature = "flex"))]
impl HostTensor {
    /// Looks into a tensor.
    ///
    /// # Panics
    ///
    /// Always: without the feature `flex` no tensor is in the host's memory.
    #[must_use]
    pub fn new<const D: usize>(_tensor: Tensor<D>) -> Self {
        unreachable!("no tensor is in the host's memory")
    }

    fn slice(&self) -> &[f32] {
        match self.inner {}
    }

    /// Gives the elements away: copied if they are shared.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        match self.inner {}
    }

    /// Puts the memory back for later use, if nobody else uses it.
    pub fn recycle(self) {
        match self.inner {}
    }
}

impl HostTensor {
    /// Changes the elements, which are copied first if they are shared; gives the tensor back.
    pub fn change<const D: usize>(tensor: Tensor<D>, change: impl FnOnce(&mut [f32])) -> Tensor<D> {
        let mut opened = Opened::new(tensor);
        change(opened.elements());
        opened.close()
    }
}

/// A tensor of the host's memory that is being changed: its elements are copied first if they are
/// shared.
pub(crate) struct Opened {
    #[cfg(feature = "flex")]
    inner: burn::backend::flex::FlexTensor,
    #[cfg(not(feature = "flex"))]
    inner: std::convert::Infallible,
}

#[cfg(feature = "flex")]
impl Opened {
    /// Opens a tensor of floats.
    pub(crate) fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        Self::of(
            tensor
                .try_into_primitive::<burn::backend::Flex>()
                .expect("the tensor is in the host's memory"),
        )
    }

    /// Opens a tensor of integers.
    pub(crate) fn integers<const D: usize>(tensor: Tensor<D, Int>) -> Self {
        Self::of(
            tensor
                .try_into_primitive::<burn::backend::Flex>()
                .expect("the tensor is in the host's memory"),
        )
    }

    fn of(inner: burn::backend::flex::FlexTensor) -> Self {
        let bytes = inner.layout().num_elements() * inner.dtype().size();
        let whole = inner.is_contiguous() && inner.bytes().len() == bytes;
        Self { inner: if whole { inner } else { inner.to_contiguous() } }
    }

    pub(crate) fn elements<E: burn::tensor::Element + bytemuck::Pod>(&mut self) -> &mut [E] {
        self.inner.storage_mut()
    }

    pub(crate) fn dtype(&self) -> DType {
        self.inner.dtype()
    }

    pub(crate) fn close<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<burn::backend::Flex>(self.inner)
    }

    pub(crate) fn close_integers<const D: usize>(self) -> Tensor<D, Int> {
        Tensor::from_primitive::<burn::backend::Flex>(self.inner)
    }
}

#[cfg(not(feature = "flex"))]
impl Opened {
    pub(crate) fn new<const D: usize>(_: Tensor<D>) -> Self {
        unreachable!("no tensor is in the host's memory")
    }

    pub(crate) fn integers<const D: usize>(_: Tensor<D, Int>) -> Self {
        unreachable!("no tensor is in the host's memory")
    }

    pub(crate) fn elements<E: burn::tensor::Element + bytemuck::Pod>(&mut self) -> &mut [E] {
        match self.inner {}
    }

    pub(crate) fn dtype(&self) -> DType {
        match self.inner {}
    }

    pub(crate) fn close<const D: usize>(self) -> Tensor<D> {
        match self.inner {}
    }

    pub(crate) fn close_integers<const D: usize>(self) -> Tensor<D, Int> {
        match self.inner {}
    }
}

impl Deref for HostTensor {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.slice()
    }
}

impl Buffer {
    /// Makes the elements a tensor, without copying.
    ///
    /// # Panics
    ///
    /// The shape has another number of elements.
    #[must_use]
    pub fn into_tensor<const D: usize>(self, shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.into_vec(), shape), device)
    }
}
