//! The cross entropy of rows of logits, and its gradient in their place.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, IntDType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::cross_entropy_kernel;
use super::launch::{cube_dim, element, empty, owned, spread};

/// Gives the nats of each row, `[rows]`, and the gradient of their sum, `[rows, v]`, where it is asked
/// for.
pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    mask: Tensor<1>,
    with_gradients: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    let targets = targets.cast(IntDType::I32);
    let (logits, targets, mask) =
        (logits.into_dispatch(), targets.into_dispatch(), mask.into_dispatch());
    let (nats, slope) =
        <Dispatch as CrossEntropy>::cross_entropy_rows(logits, targets, mask, with_gradients);
    (Tensor::from_dispatch(nats), with_gradients.then(|| Tensor::from_dispatch(slope)))
}

/// The backends that have the kernel.
#[backend_extension(Cube, Fusion)]
pub(crate) trait CrossEntropy: Backend {
    /// `logits` `[rows, v]`, `targets` `[rows]` of i32, `mask` `[rows]` of f32; without gradients the
    /// second is the logits as they are.
    #[fusion(meta = outputs)]
    fn cross_entropy_rows(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        mask: FloatTensor<Self>,
        with_gradients: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn outputs(
    logits: &TensorSpec,
    _targets: &TensorSpec,
    _mask: &TensorSpec,
    _with_gradients: &bool,
) -> (TensorSpec, TensorSpec) {
    (TensorSpec::new(Shape::new([logits.shape[0]]), DType::F32), logits.clone())
}

impl CrossEntropy for CubeBackend {
    fn cross_entropy_rows(
        logits: CubeTensor,
        targets: CubeTensor,
        mask: CubeTensor,
        with_gradients: bool,
    ) -> (CubeTensor, CubeTensor) {
        let logits = if with_gradients { owned(logits) } else { into_contiguous(logits) };
        let [targets, mask] = [targets, mask].map(into_contiguous);
        let [rows, width] = logits.meta.shape().dims();
        let nats = empty(&logits, [rows], DType::F32);
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: the tensors are contiguous and of the extents that `CrossEntropy` names; a cube
        // reads and writes one row below `rows`, at columns below `width`, and targets are ids. The
        // logits are written only with gradients, and then nobody else holds them.
        unsafe {
            cross_entropy_kernel::launch_unchecked(
                &logits.client,
                spread(rows),
                cube_dim(),
                logits.clone().into_tensor_arg(),
                targets.into_tensor_arg(),
                mask.into_tensor_arg(),
                nats.clone().into_tensor_arg(),
                rows,
                width,
                with_gradients,
                element(logits.dtype),
            );
        }
        (nats, logits)
    }
}
