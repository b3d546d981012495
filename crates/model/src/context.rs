//! What all layers of one forward pass share.

use burn::tensor::{Device, Int, Tensor, TensorData};
use terrace_config::Architecture;
use terrace_kernels::{AttentionMask, RopeTable};

/// Rotations and mask for one micro-batch of packed sequences.
#[derive(Clone, Debug)]
pub struct SequenceContext {
    shape: [usize; 2],
    cos: Tensor<4>,
    sin: Tensor<4>,
    mask: AttentionMask,
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
        let [b, t] = shape;
        assert_eq!(positions.len(), b * t, "one position for each token");
        let indices: Tensor<1, Int> = Tensor::from_data(
            TensorData::new(positions.to_vec(), [b * t]),
            &device.clone().inner(),
        );
        let (cos, sin) = table.lookup(indices, shape);
        let group = architecture.num_attention_heads / architecture.num_key_value_heads;
        let mask = AttentionMask::within_documents(segments, shape, group as usize, device);
        let place = |x: Tensor<4>| {
            if device.is_autodiff() { Tensor::from_inner(x) } else { x }
        };
        Self { shape, cos: place(cos), sin: place(sin), mask }
    }

    /// The extents `[b, t]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(crate) fn rotation(&self) -> (Tensor<4>, Tensor<4>) {
        (self.cos.clone(), self.sin.clone())
    }

    pub(crate) fn mask(&self) -> &AttentionMask {
        &self.mask
    }
}
