//! The squared norms of the gradients of single micro-steps.

use burn::tensor::Tensor;
use terrace_kernels::host::is_host;
use terrace_kernels::square_sums;

/// Takes squares segment by segment; a micro-step ends with the embedding.
///
/// No gradient is kept or copied. On the host a sum is a number at once; on other devices it stays
/// there until all are asked for, so that no micro-step waits for another.
#[derive(Debug, Default)]
pub(super) struct Squares {
    /// Complete micro-steps, on the host.
    done: Vec<f64>,
    /// The micro-step that is under way, on the host.
    open: f64,
    /// Complete micro-steps, on the device.
    queued: Vec<Tensor<1>>,
    /// The micro-step that is under way, on the device.
    waiting: Option<Tensor<1>>,
}

impl Squares {
    pub(super) fn accept(&mut self, gradients: &[Tensor<2>], is_last: bool) {
        if gradients.first().is_none_or(|gradient| is_host(&gradient.device())) {
            self.open += square_sums(gradients.to_vec()).into_iter().sum::<f64>();
        } else {
            let squares = gradients.iter().map(|gradient| gradient.clone().square().sum());
            // NUMERICS: in f32 on the device, as the norm of the sum is.
            self.waiting = self.waiting.take().into_iter().chain(squares).reduce(|a, b| a + b);
        }
        if is_last {
            self.queued.extend(self.waiting.take());
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    /// The squared norm of each complete micro-step.
    pub(super) fn values(&self) -> Vec<f64> {
        if self.queued.is_empty() {
            return self.done.clone();
        }
        // SYNC: once per step, after all micro-steps were queued.
        let data = Tensor::cat(self.queued.clone(), 0).into_data();
        let values: Vec<f32> = data.try_to_vec().expect("gradients are f32");
        values.into_iter().map(f64::from).collect()
    }
}
