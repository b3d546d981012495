//! What all layers of one forward pass share.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use terrace_config::Architecture;
use terrace_kernels::device::{DeviceDocuments, has_kernels};
use terrace_kernels::host::{Documents, HostTensor, Rotations, is_host};
use terrace_kernels::{AttentionMask, RopeTable};

/// Rotations and documents of one micro-batch of packed sequences.
#[derive(Clone, Debug)]
pub struct SequenceContext {
    shape: [usize; 2],
    form: Form,
}

/// The form that the layers' operations ask for.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// For tensors of any backend, with or without autodiff.
    Composed(Box<Composed>),
    /// For slices of the host's memory.
    Fused(Arc<Fused>),
    /// For tensors without autodiff, with the backward pass written out.
    OnDevice(Arc<OnDevice>),
}

#[derive(Clone, Debug)]
pub(crate) struct Composed {
    pub(crate) cos: Tensor<4>,
    pub(crate) sin: Tensor<4>,
    pub(crate) mask: AttentionMask,
}

#[derive(Debug)]
pub(crate) struct Fused {
    pub(crate) rotations: Rotations,
    pub(crate) documents: Documents,
}

#[derive(Debug)]
pub(crate) struct OnDevice {
    /// `[b·t, h/2]`.
    pub(crate) cos: Tensor<2>,
    /// `[b·t, h/2]`.
    pub(crate) sin: Tensor<2>,
    pub(crate) documents: DeviceDocuments,
    /// The number format of products.
    pub(crate) products: DType,
}

impl SequenceContext {
    /// Prepares the pass over `[b, t]` tokens.
    ///
    /// # Shapes
    ///
    /// `positions` and `segments` are `[b, t]` row-major: the position within the document, and the
    /// number of the document within the row. `device` is the one that the pass runs on, with or
    /// without autodiff.
    ///
    /// # Panics
    ///
    /// A position is not in `table`.
    #[must_use]
    pub fn new(
        architecture: &Architecture,
        table: &RopeTable,
        positions: &[i32],
        segments: &[i32],
        shape: [usize; 2],
        device: &Device,
    ) -> Self {
        Self::with_products(architecture, table, positions, segments, shape, (device, DType::F32))
    }

    /// The same with products in f32 or bf16.
    ///
    /// # Panics
    ///
    /// A position is not in `table`.
    #[must_use]
    pub fn with_products(
        architecture: &Architecture,
        table: &RopeTable,
        positions: &[i32],
        segments: &[i32],
        shape: [usize; 2],
        (device, products): (&Device, DType),
    ) -> Self {
        let is_composed = !is_host(device) && !has_kernels(device, architecture.head_dim as usize);
        if is_composed && device.is_autodiff() {
            return Self::composed(architecture, table, positions, segments, shape, device);
        }
        if !is_host(device) || products != DType::F32 {
            return Self::on_device(table, positions, segments, shape, (device, products));
        }
        let (cos, sin) = lookup(table, positions, shape, device);
        let half = cos.dims()[3];
        let host = |x: Tensor<4>| HostTensor::new(x).to_vec();
        let rotations = Rotations { cos: host(cos), sin: host(sin), half };
        let fused = Fused { rotations, documents: Documents::new(segments, shape) };
        Self { shape, form: Form::Fused(Arc::new(fused)) }
    }

    /// The same for the operations composed of the tensor library's own, whatever the device: with
    /// autodiff they are the oracle of the fused ones.
    ///
    /// # Panics
    ///
    /// A position is not in `table`.
    #[must_use]
    pub fn composed(
        architecture: &Architecture,
        table: &RopeTable,
        positions: &[i32],
        segments: &[i32],
        shape: [usize; 2],
        device: &Device,
    ) -> Self {
        let (cos, sin) = lookup(table, positions, shape, device);
        let group = architecture.num_attention_heads / architecture.num_key_value_heads;
        let mask = AttentionMask::within_documents(segments, shape, group as usize, device);
        let place = |x: Tensor<4>| {
            if device.is_autodiff() { Tensor::from_inner(x) } else { x }
        };
        let composed = Composed { cos: place(cos), sin: place(sin), mask };
        Self { shape, form: Form::Composed(Box::new(composed)) }
    }

    /// The same for operations with their backward pass written out, which a device may have kernels
    /// for; `device` carries no autodiff. A layer's weights are brought to the format of products where
    /// they are used.
    ///
    /// # Panics
    ///
    /// A position is not in `table`.
    #[must_use]
    pub fn on_device(
        table: &RopeTable,
        positions: &[i32],
        segments: &[i32],
        shape: [usize; 2],
        (device, products): (&Device, DType),
    ) -> Self {
        let (cos, sin) = lookup(table, positions, shape, device);
        let (tokens, half) = (shape[0] * shape[1], cos.dims()[3]);
        let [cos, sin] = [cos, sin].map(|angles| angles.reshape([tokens, half]));
        let documents = DeviceDocuments::new(segments, shape, device);
        Self { shape, form: Form::OnDevice(Arc::new(OnDevice { cos, sin, documents, products })) }
    }

    /// Whether layers write their own derivatives out, so that no graph is needed.
    #[must_use]
    pub fn has_tapes(&self) -> bool {
        !matches!(self.form, Form::Composed(_))
    }

    /// The extents `[b, t]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(crate) fn form(&self) -> &Form {
        &self.form
    }
}

/// The cosines and sines of a batch of positions, without autodiff.
fn lookup(
    table: &RopeTable,
    positions: &[i32],
    shape: [usize; 2],
    device: &Device,
) -> (Tensor<4>, Tensor<4>) {
    let [b, t] = shape;
    assert_eq!(positions.len(), b * t, "one position for each token");
    let indices: Tensor<1, Int> =
        Tensor::from_data(TensorData::new(positions.to_vec(), [b * t]), &device.clone().inner());
    table.lookup(indices, shape)
}
