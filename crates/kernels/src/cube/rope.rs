//! Rotations by position.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::rotate_kernel;
use super::launch::{cube_dim, element, owned, spread_elements};

/// As [`crate::device::rotate`].
pub(crate) fn rotate(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>, back: bool) -> Tensor<2> {
    let (x, cos, sin) = (x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Rotation>::rotate_heads(x, cos, sin, back))
}

/// The backends that have the kernel.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Rotation: Backend {
    /// `x` `[rows, n·h]`, `cos` and `sin` `[rows, h/2]` of f32.
    #[fusion(dtype = x, shape = x)]
    fn rotate_heads(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self>;
}

impl Rotation for CubeBackend {
    fn rotate_heads(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, back: bool) -> CubeTensor {
        let (x, [cos, sin]) = (owned(x), [cos, sin].map(into_contiguous));
        let [rows, width] = x.meta.shape().dims();
        let half = cos.meta.shape()[1];
        let heads = width / (2 * half);
        let total = rows * heads * half;
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: a unit below `total` reads and writes one pair of one head, and reads its row's
        // angle; the tensors are contiguous and of these extents, and nobody else holds `x`.
        unsafe {
            rotate_kernel::launch_unchecked(
                &x.client,
                spread_elements(total),
                cube_dim(),
                x.clone().into_tensor_arg(),
                cos.into_tensor_arg(),
                sin.into_tensor_arg(),
                total,
                heads,
                half,
                back,
                element(x.dtype),
            );
        }
        x
    }
}
