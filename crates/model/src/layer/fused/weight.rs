//! A weight matrix in the host's memory, and its products.

use burn::tensor::{Device, Tensor};
use terrace_kernels::host::{Buffer, HostTensor, Matrix, MatrixMut, Threads, multiply};

/// A weight matrix, `[out, in]`.
pub(super) struct Weight {
    values: HostTensor,
    shape: [usize; 2],
    device: Device,
}

impl Weight {
    pub(super) fn new(tensor: &Tensor<2>) -> Self {
        let (shape, device) = (tensor.dims(), tensor.device());
        Self { values: HostTensor::new(tensor.clone()), shape, device }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.values, self.shape[0], self.shape[1])
    }

    /// `x · wᵀ`.
    pub(super) fn project(&self, x: &[f32]) -> Buffer {
        let mut y = Buffer::any(self.rows(x, 1) * self.shape[0]);
        self.project_to(x, &mut y, false);
        y
    }

    /// Writes `x · wᵀ` to `y`, or adds it.
    pub(super) fn project_to(&self, x: &[f32], y: &mut [f32], accumulate: bool) {
        let (rows, [out, inner]) = (self.rows(x, 1), self.shape);
        let (y, x) = (MatrixMut::new(y, rows, out), Matrix::new(x, rows, inner));
        multiply(y, accumulate, x, self.matrix().transposed(), 1.0, Threads::All);
    }

    /// Writes the gradient of the weights, `dyᵀ · x`, to `gradient`, or adds it.
    pub(super) fn gradient_to(&self, dy: &[f32], x: &[f32], gradient: &mut [f32], add: bool) {
        let (rows, [out, inner]) = (self.rows(x, 1), self.shape);
        let gradient = MatrixMut::new(gradient, out, inner);
        let dy = Matrix::new(dy, rows, out).transposed();
        multiply(gradient, add, dy, Matrix::new(x, rows, inner), 1.0, Threads::All);
    }

    /// The gradient of the weights, `dyᵀ · x`.
    pub(super) fn gradient(&self, dy: &[f32], x: &[f32]) -> Tensor<2> {
        let mut gradient = self.gradient_buffer();
        self.gradient_to(dy, x, &mut gradient, false);
        self.gradient_tensor(gradient)
    }

    /// Room for a gradient, of any value.
    pub(super) fn gradient_buffer(&self) -> Buffer {
        Buffer::any(self.shape[0] * self.shape[1])
    }

    /// A gradient as a tensor of the weights' shape.
    pub(super) fn gradient_tensor(&self, gradient: Buffer) -> Tensor<2> {
        gradient.into_tensor(self.shape, &self.device)
    }

    /// Writes the gradient of the input, `dy · w`, to `dx`, or adds it.
    pub(super) fn upstream(&self, dy: &[f32], dx: &mut [f32], accumulate: bool) {
        let (rows, [out, inner]) = (self.rows(dy, 0), self.shape);
        let (dx, dy) = (MatrixMut::new(dx, rows, inner), Matrix::new(dy, rows, out));
        multiply(dx, accumulate, dy, self.matrix(), 1.0, Threads::All);
    }

    fn rows(&self, values: &[f32], extent: usize) -> usize {
        values.len() / self.shape[extent]
    }
}
