//! The MLP's gate.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::{gate_backward_kernel, gate_kernel};
use super::launch::{cube_dim, element, empty, owned, spread_elements};

/// As [`crate::device::gate`].
pub(crate) fn gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Gate>::gate_forward(gate, up))
}

/// As [`crate::device::gate_backward`].
pub(crate) fn gate_backward(gate: Tensor<2>, up: Tensor<2>, upstream: Tensor<2>) -> [Tensor<2>; 3] {
    let (gate, up, upstream) = (gate.into_dispatch(), up.into_dispatch(), upstream.into_dispatch());
    let (gate, up, gated) = <Dispatch as Gate>::gate_backward(gate, up, upstream);
    [Tensor::from_dispatch(gate), Tensor::from_dispatch(up), Tensor::from_dispatch(gated)]
}

/// The backends that have the kernels.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Gate: Backend {
    /// Both `[rows, f]`; gives the same.
    #[fusion(dtype = gate, shape = gate)]
    fn gate_forward(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// All `[rows, f]`; gives the gradients of `gate` and `up`, and the gated product.
    #[fusion(meta = |gate, up, upstream| (gate.clone(), up.clone(), upstream.clone()))]
    fn gate_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Gate for CubeBackend {
    fn gate_forward(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        let [gate, up] = [gate, up].map(into_contiguous);
        let [rows, width] = gate.meta.shape().dims();
        let gated = empty(&gate, [rows, width], gate.dtype);
        let (client, elements) = (gate.client.clone(), element(gate.dtype));
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: a unit below `rows · width` takes one element of each tensor; all are contiguous
        // and of these extents.
        unsafe {
            gate_kernel::launch_unchecked(
                &client,
                spread_elements(rows * width),
                cube_dim(),
                gate.into_tensor_arg(),
                up.into_tensor_arg(),
                gated.clone().into_tensor_arg(),
                rows * width,
                elements,
            );
        }
        gated
    }

    fn gate_backward(
        gate: CubeTensor,
        up: CubeTensor,
        upstream: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [gate, up, upstream] = [gate, up, upstream].map(owned);
        let [rows, width] = gate.meta.shape().dims();
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: as in the forward pass, and nobody else holds what is written.
        unsafe {
            gate_backward_kernel::launch_unchecked(
                &gate.client,
                spread_elements(rows * width),
                cube_dim(),
                gate.clone().into_tensor_arg(),
                up.clone().into_tensor_arg(),
                upstream.clone().into_tensor_arg(),
                rows * width,
                element(gate.dtype),
            );
        }
        (gate, up, upstream)
    }
}
