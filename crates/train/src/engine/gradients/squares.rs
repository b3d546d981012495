//! Squared norms of gradients, on the host or still on the device.

use burn::tensor::Tensor;
use terrace_kernels::host::is_host;
use terrace_kernels::square_sums;

/// The sum of the squares of some gradients. No gradient is kept or copied.
///
// NUMERICS: on a device each tensor's sum, and that of its segment, is f32; sums over segments are f64.
#[derive(Clone, Debug)]
pub(crate) enum Square {
    /// A number.
    Known(f64),
    /// One that stays on the device until all are asked for, so that nothing waits for it.
    Queued(Box<Tensor<1>>),
}

impl Square {
    pub(crate) fn of(gradients: &[Tensor<2>]) -> Self {
        if gradients.first().is_none_or(|gradient| is_host(&gradient.device())) {
            return Self::Known(square_sums(gradients.to_vec()).into_iter().sum());
        }
        let squares = gradients.iter().map(|gradient| gradient.clone().square().sum());
        Self::Queued(Box::new(squares.reduce(|a, b| a + b).expect("there are some")))
    }

    /// All as numbers, in order.
    pub(crate) fn values(squares: &[Self]) -> Vec<f64> {
        let queued: Vec<Tensor<1>> = squares
            .iter()
            .filter_map(|square| match square {
                Self::Known(_) => None,
                Self::Queued(tensor) => Some(Tensor::clone(tensor)),
            })
            .collect();
        let mut read = Vec::new();
        if !queued.is_empty() {
            // SYNC: once for all of them.
            let data = Tensor::cat(queued, 0).into_data();
            read = data.try_to_vec::<f32>().expect("gradients are f32");
        }
        let mut read = read.into_iter().map(f64::from);
        let value = |square: &Self| match square {
            Self::Known(value) => *value,
            Self::Queued(_) => read.next().expect("each was read"),
        };
        squares.iter().map(value).collect()
    }
}

/// The squared norms of the gradients of single micro-steps, taken segment by segment.
#[derive(Debug, Default)]
pub(super) struct Squares {
    /// By micro-step and segment.
    micro_steps: Vec<Vec<Square>>,
    /// Those of the micro-step that is under way.
    open: Vec<Square>,
}

impl Squares {
    /// Takes a segment's; a micro-step ends with its last.
    pub(super) fn accept(&mut self, gradients: &[Tensor<2>], is_last: bool) {
        self.open.push(Square::of(gradients));
        if is_last {
            self.micro_steps.push(std::mem::take(&mut self.open));
        }
    }

    /// The squared norm of each complete micro-step.
    pub(super) fn values(&self) -> Vec<f64> {
        let all: Vec<Square> = self.micro_steps.iter().flatten().cloned().collect();
        let mut values = Square::values(&all).into_iter();
        let sum = |step: &Vec<Square>| values.by_ref().take(step.len()).sum();
        self.micro_steps.iter().map(sum).collect()
    }
}
