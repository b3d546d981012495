//! AdamW on one tensor in one launch.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::{UpdateConstantsLaunch, adamw_codes_kernel, adamw_floats_kernel};
use super::launch::{cube_dim, element, owned, spread, spread_elements};
use crate::host::RoundingKey;
use crate::{AdamW, CodeTable, Moment, MomentBlocks, Moments};

/// As [`crate::adamw_step`].
///
/// # Panics
///
/// The moments are not of one format.
pub(crate) fn adamw(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    match (moments.first, moments.second) {
        (Moment::Float(first), Moment::Float(second)) => {
            let (parameter, first, second) = <Dispatch as Update>::adamw_floats(
                parameter.into_dispatch(),
                gradient.into_dispatch(),
                first.into_dispatch(),
                second.into_dispatch(),
                gradient_scale,
                constants,
            );
            let [first, second] = [first, second].map(|m| Moment::Float(Tensor::from_dispatch(m)));
            (Tensor::from_dispatch(parameter), Moments { first, second })
        }
        (Moment::Blocks(first), Moment::Blocks(second)) => {
            let tables = tables(&parameter);
            let (parameter, first_words, first_scales, second_words, second_scales) =
                <Dispatch as Update>::adamw_codes(
                    parameter.into_dispatch(),
                    gradient.into_dispatch(),
                    first.words.into_dispatch(),
                    first.scales.into_dispatch(),
                    second.words.into_dispatch(),
                    second.scales.into_dispatch(),
                    tables.into_dispatch(),
                    gradient_scale,
                    constants,
                );
            let blocks = |words, scales, table| {
                let (words, scales) = (Tensor::from_dispatch(words), Tensor::from_dispatch(scales));
                Moment::Blocks(MomentBlocks { words, scales, table })
            };
            let moments = Moments {
                first: blocks(first_words, first_scales, CodeTable::Signed),
                second: blocks(second_words, second_scales, CodeTable::Unsigned),
            };
            (Tensor::from_dispatch(parameter), moments)
        }
        _ => panic!("both moments are of one format"),
    }
}

/// Numbers and thresholds of both tables, as the kernel reads them.
fn tables(like: &Tensor<2>) -> Tensor<1> {
    let both = [CodeTable::Signed, CodeTable::Unsigned];
    let values: Vec<f32> =
        both.into_iter().flat_map(|t| t.values().iter().chain(t.thresholds()).copied()).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), (&like.device(), DType::F32))
}

/// The backends that have the kernels.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Update: Backend {
    /// All of one shape, the gradient f32; gives the new parameter and the new moments.
    #[fusion(meta = |parameter, _, first, second, _, _| {
        (parameter.clone(), first.clone(), second.clone())
    })]
    fn adamw_floats(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient_scale: f64,
        constants: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Parameter and gradient of one shape, moments as [`MomentBlocks`](crate::MomentBlocks) has them;
    /// gives the new parameter, and words and scales of both moments.
    #[fusion(meta = |parameter, _, first, first_scales, second, second_scales, _, _, _| {
        (
            parameter.clone(),
            first.clone(),
            first_scales.clone(),
            second.clone(),
            second_scales.clone(),
        )
    })]
    fn adamw_codes(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: IntTensor<Self>,
        first_scales: FloatTensor<Self>,
        second: IntTensor<Self>,
        second_scales: FloatTensor<Self>,
        tables: FloatTensor<Self>,
        gradient_scale: f64,
        constants: AdamW,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>);
}

impl Update for CubeBackend {
    fn adamw_floats(
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
        let is_rounded = |tensor: &CubeTensor| tensor.dtype != DType::F32;
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: a unit below `total` takes one element of each tensor; all are contiguous and of
        // one shape, and nobody else holds what is written.
        unsafe {
            adamw_floats_kernel::launch_unchecked(
                &parameter.client,
                spread_elements(total),
                cube_dim(),
                parameter.clone().into_tensor_arg(),
                gradient.into_tensor_arg(),
                first.clone().into_tensor_arg(),
                second.clone().into_tensor_arg(),
                total,
                worked_out(constants, gradient_scale),
                is_rounded(&parameter),
                is_rounded(&first),
                [element(parameter.dtype), element(first.dtype)],
            );
        }
        (parameter, first, second)
    }

    fn adamw_codes(
        parameter: CubeTensor,
        gradient: CubeTensor,
        first: CubeTensor,
        first_scales: CubeTensor,
        second: CubeTensor,
        second_scales: CubeTensor,
        tables: CubeTensor,
        gradient_scale: f64,
        constants: AdamW,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let [parameter, first, first_scales, second, second_scales] =
            [parameter, first, first_scales, second, second_scales].map(owned);
        let [gradient, tables] = [gradient, tables].map(into_contiguous);
        let total = parameter.meta.shape().num_elements();
        let blocks = first_scales.meta.shape().num_elements();
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: a cube below `blocks` takes a scale and 64 words of each moment, which have as many;
        // its units take elements of parameter and gradient below `total`; codes are below 256, as many
        // as each part of the tables has. Nobody else holds what is written.
        unsafe {
            adamw_codes_kernel::launch_unchecked(
                &parameter.client,
                spread(blocks),
                cube_dim(),
                parameter.clone().into_tensor_arg(),
                gradient.into_tensor_arg(),
                first.clone().into_tensor_arg(),
                first_scales.clone().into_tensor_arg(),
                second.clone().into_tensor_arg(),
                second_scales.clone().into_tensor_arg(),
                tables.into_tensor_arg(),
                total,
                blocks,
                worked_out(constants, gradient_scale),
                parameter.dtype != DType::F32,
                element(parameter.dtype),
            );
        }
        (parameter, first, first_scales, second, second_scales)
    }
}

/// The constants that the kernels take.
///
// NUMERICS: in f64, rounded once.
fn worked_out(constants: AdamW, gradient_scale: f64) -> UpdateConstantsLaunch {
    let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, beta2_product, rounding } =
        constants;
    let RoundingKey(key) = rounding;
    UpdateConstantsLaunch::new(
        gradient_scale as f32,
        beta1 as f32,
        (1.0 - beta1) as f32,
        beta2 as f32,
        (1.0 - beta2) as f32,
        (1.0 - learning_rate * weight_decay) as f32,
        (learning_rate / (1.0 - beta1.powf(step as f64))) as f32,
        (1.0 / (1.0 - beta2_product).sqrt()) as f32,
        epsilon as f32,
        key as u32,
        (key >> 32) as u32,
    )
}
