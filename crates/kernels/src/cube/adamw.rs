//! AdamW on one tensor in one launch.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::adamw_kernel;
use super::launch::{cube_dim, owned, runs, spread_elements};
use crate::{AdamW, Moments};

/// Whether the kernel can take these tensors, whose shapes are one.
pub(crate) fn updates(tensors: [&Tensor<2>; 4]) -> bool {
    runs(&tensors[0].device()) && tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

/// As [`crate::adamw_step`].
pub(crate) fn adamw(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    let (parameter, first, second) = <Dispatch as Update>::adamw_update(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        moments.first.into_dispatch(),
        moments.second.into_dispatch(),
        gradient_scale,
        constants,
    );
    let first = Tensor::from_dispatch(first);
    let moments = Moments { first, second: Tensor::from_dispatch(second) };
    (Tensor::from_dispatch(parameter), moments)
}

/// The backends that have the kernel.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Update: Backend {
    /// All of one shape, f32; gives the new parameter and the new moments.
    #[fusion(meta = |parameter, _, first, second, _, _| {
        (parameter.clone(), first.clone(), second.clone())
    })]
    fn adamw_update(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient_scale: f64,
        constants: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl Update for CubeBackend {
    fn adamw_update(
        parameter: CubeTensor,
        gradient: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        gradient_scale: f64,
        constants: AdamW,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [parameter, first, second] = [parameter, first, second].map(owned);
        let gradient = into_contiguous(gradient);
        let total = parameter.meta.shape().num_elements();
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, beta2_product } =
            constants;
        // NUMERICS: constants in f64, rounded once.
        let rate = learning_rate / (1.0 - beta1.powf(step as f64));
        let root_scale = 1.0 / (1.0 - beta2_product).sqrt();
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: a unit below `total` takes one element of each tensor; all are contiguous and of
        // one shape, and nobody else holds what is written.
        unsafe {
            adamw_kernel::launch_unchecked(
                &parameter.client,
                spread_elements(total),
                cube_dim(),
                parameter.clone().into_tensor_arg(),
                gradient.into_tensor_arg(),
                first.clone().into_tensor_arg(),
                second.clone().into_tensor_arg(),
                total,
                gradient_scale as f32,
                beta1 as f32,
                (1.0 - beta1) as f32,
                beta2 as f32,
                (1.0 - beta2) as f32,
                (1.0 - learning_rate * weight_decay) as f32,
                rate as f32,
                root_scale as f32,
                epsilon as f32,
            );
        }
        (parameter, first, second)
    }
}
