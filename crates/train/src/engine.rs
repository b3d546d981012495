//! Exact gradients, one segment of the model at a time.
//!
//! Burn's autodiff would keep every activation of the whole graph. So each layer runs on a detached
//! input, and the chain rule between layers is written out here: the backward pass of a layer yields
//! its parameters' gradients and the upstream of the layer below, and its graph is dropped at once.

mod gradients;
mod micro_batch;
mod segments;

use burn::tensor::{DType, Device, Tensor};
use terrace_config::{Architecture, Precision};
use terrace_data::MicroBatch;
use terrace_kernels::host::{Buffer, is_host, return_large_buffers};
use terrace_kernels::{RopeTable, linear_cross_entropy, rms_norm, rms_norm_backward};
use terrace_model::{CausalLm, Segment};
use tracing::trace_span;

pub(crate) use gradients::Square;
pub use gradients::{GradientAccumulator, GradientSink, Trained};
use micro_batch::DeviceBatch;
use segments::Tape;

/// Runs forward and backward passes of one architecture on one device.
pub struct Engine {
    architecture: Architecture,
    device: Device,
    rope: RopeTable,
    settings: EngineSettings,
}

/// What trades memory or rounding for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// The longest sequence that will be seen.
    pub sequence_length: usize,
    /// How many of the topmost layers keep their graph; the others are recomputed in the backward
    /// pass.
    pub kept_layers: usize,
    /// The number of tokens whose logits exist at one time.
    pub cross_entropy_chunk_tokens: usize,
    /// The number format of products.
    pub precision: Precision,
}

impl Engine {
    /// Prepares the passes on `device`, which carries no autodiff.
    ///
    /// On the processor in bf16 it changes how the process gives memory back, see
    /// [`return_large_buffers`].
    #[must_use]
    pub fn new(architecture: &Architecture, device: &Device, settings: EngineSettings) -> Self {
        if settings.precision != Precision::F32 && is_host(device) {
            return_large_buffers();
        }
        let head_dim = architecture.head_dim as usize;
        Self {
            rope: RopeTable::new(
                settings.sequence_length,
                head_dim,
                architecture.rope_theta,
                device,
            ),
            architecture: architecture.clone(),
            device: device.clone(),
            settings,
        }
    }

    /// The same passes for a model of another shape.
    #[must_use]
    pub fn for_model(&self, architecture: &Architecture) -> Self {
        Self::new(architecture, &self.device, self.settings)
    }

    /// The device that the passes run on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Takes the loss of a micro-batch and hands the gradients of its **summed** nats to `sink`,
    /// segment by segment from the top. The sink may change a segment's weights: no other gradient of
    /// this micro-batch needs them any more.
    ///
    /// # Shapes
    ///
    /// Gives the summed nats of each sequence, `[b]`, still on the device.
    #[must_use]
    pub fn micro_step(
        &self,
        model: &mut CausalLm,
        batch: &MicroBatch,
        sink: &mut impl GradientSink,
    ) -> Tensor<1> {
        let _micro_step = trace_span!("micro_step").entered();
        let batch = trace_span!("to_device").in_scope(|| DeviceBatch::new(batch, &self.device));
        let embedded = model.embed(batch.tokens.clone());
        let (tape, top) =
            trace_span!("forward").in_scope(|| Tape::record(self, model, &batch, embedded));
        let (nats, upstream, tied) =
            trace_span!("head").in_scope(|| self.head_step(model, &batch, top, sink));
        let upstream =
            trace_span!("backward").in_scope(|| tape.unwind(self, model, upstream, sink));
        // With tied embeddings the matrix is used twice, and its gradient is the sum of both uses.
        let shape = model.embed_tokens.dims();
        let base = tied.unwrap_or_else(|| self.zeros(shape));
        let gradient = batch.scatter_to_embedding(base, upstream);
        sink.accept(model, Segment::Embedding, vec![gradient]);
        nats
    }

    /// The summed nats of each sequence, `[b]`, without gradients.
    #[must_use]
    pub fn evaluate(&self, model: &CausalLm, batch: &MicroBatch) -> Tensor<1> {
        let batch = DeviceBatch::new(batch, &self.device);
        let context = batch.context(self);
        let products = self.products();
        let hidden = model.hidden_states(batch.tokens.clone(), &context).cast(products);
        let chunk = self.settings.cross_entropy_chunk_tokens;
        let weight = model.output_projection().cast(products);
        let targets = (batch.targets.clone(), batch.mask.clone());
        let loss = linear_cross_entropy(hidden, weight, targets.0, targets.1, chunk, false);
        batch.sum_rows(loss.nats)
    }

    /// Zeros in f32: beside fused layers in memory that the gradient of a table has been in.
    fn zeros(&self, shape: [usize; 2]) -> Tensor<2> {
        if is_host(&self.device) && self.settings.precision == Precision::F32 {
            return Buffer::zeros(shape[0] * shape[1]).into_tensor(shape, &self.device);
        }
        Tensor::zeros(shape, (&self.device, DType::F32))
    }

    /// The number format of products.
    fn products(&self) -> DType {
        match self.settings.precision {
            Precision::F32 => DType::F32,
            Precision::Bf16Mixed | Precision::Bf16 => DType::BF16,
        }
    }

    /// The final norm, the projection and the cross entropy; the gradient of a tied projection is
    /// given back, because it belongs to the embedding.
    fn head_step(
        &self,
        model: &mut CausalLm,
        batch: &DeviceBatch<'_>,
        top: Tensor<2>,
        sink: &mut impl GradientSink,
    ) -> (Tensor<1>, Tensor<2>, Option<Tensor<2>>) {
        let (norm, epsilon) = (model.norm.clone(), self.architecture.rms_norm_eps);
        let loss = linear_cross_entropy(
            rms_norm(top.clone(), norm.clone(), epsilon).cast(self.products()),
            model.output_projection().cast(self.products()),
            batch.targets.clone(),
            batch.mask.clone(),
            self.settings.cross_entropy_chunk_tokens,
            true,
        );
        let gradients = loss.gradients.expect("gradients were asked for");
        let (upstream, norm) = rms_norm_backward(top, norm, epsilon, gradients.hidden);
        let mut own = vec![norm];
        let tied = match model.lm_head {
            Some(_) => {
                own.push(gradients.weight);
                None
            }
            None => Some(gradients.weight),
        };
        sink.accept(model, Segment::Head, own);
        (batch.sum_rows(loss.nats), upstream, tied)
    }
}
