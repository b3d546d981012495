//! Norms of rows.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::kernels::{
    UNITS, norm_apply_kernel, norm_backward_kernel, norm_forward_kernel, norm_weight_kernel,
    sum_parts_kernel,
};
use super::launch::{cube_dim, element, empty, owned, spread, spread_elements};

/// The rows of a part of the weight's gradient.
const PART_ROWS: usize = 64;

/// As [`crate::device::norm_forward`].
pub(crate) fn norm_forward(
    x: Tensor<2>,
    weight: Tensor<2>,
    epsilon: f64,
    dtype: DType,
) -> (Tensor<2>, Tensor<1>) {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let (normed, scales) = <Dispatch as Norm>::norm_forward(x, weight, epsilon as f32, dtype);
    (Tensor::from_dispatch(normed), Tensor::from_dispatch(scales))
}

/// As [`crate::device::norm_apply`].
pub(crate) fn norm_apply(
    x: Tensor<2>,
    weight: Tensor<2>,
    scales: Tensor<1>,
    dtype: DType,
) -> Tensor<2> {
    let (x, weight, scales) = (x.into_dispatch(), weight.into_dispatch(), scales.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Norm>::norm_apply(x, weight, scales, dtype))
}

/// As [`crate::device::norm_backward`]; without a residual its memory is still asked for.
pub(crate) fn norm_backward(
    x: Tensor<2>,
    weight: Tensor<2>,
    scales: Tensor<1>,
    upstream: Tensor<2>,
    residual: Option<Tensor<2>>,
) -> (Tensor<2>, Tensor<2>) {
    let replaces = residual.is_none();
    let residual = residual.unwrap_or_else(|| x.clone());
    let (dx, dw) = <Dispatch as Norm>::norm_backward(
        x.into_dispatch(),
        weight.into_dispatch(),
        scales.into_dispatch(),
        upstream.into_dispatch(),
        residual.into_dispatch(),
        replaces,
    );
    (Tensor::from_dispatch(dx), Tensor::from_dispatch(dw))
}

/// The backends that have the kernels.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Norm: Backend {
    /// `x` `[rows, d]`, `weight` `[1, d]`; gives `[rows, d]` of `dtype`, and `[rows]` of f32.
    #[fusion(meta = |x, _, _, dtype| (
        TensorSpec::new(x.shape.clone(), *dtype),
        TensorSpec::new(Shape::new([x.shape[0]]), DType::F32),
    ))]
    fn norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The same from the scales, `[rows]`.
    #[fusion(dtype = *dtype, shape = x)]
    fn norm_apply(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// Gives the gradient of `x`, `[rows, d]`, added to `residual` unless it `replaces` it, and that of
    /// `weight`, `[1, d]`.
    #[fusion(meta = |_, weight, _, _, residual, _| (
        residual.clone(),
        TensorSpec::new(weight.shape.clone(), DType::F32),
    ))]
    fn norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        replaces: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl Norm for CubeBackend {
    fn norm_forward(
        x: CubeTensor,
        weight: CubeTensor,
        epsilon: f32,
        dtype: DType,
    ) -> (CubeTensor, CubeTensor) {
        let [x, weight] = [x, weight].map(into_contiguous);
        let [rows, width] = x.meta.shape().dims();
        let normed = empty(&x, [rows, width], dtype);
        let scales = empty(&x, [rows], DType::F32);
        let client = x.client.clone();
        let elements = [x.dtype, weight.dtype, dtype].map(element);
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: a cube reads and writes one row below `rows`, at columns below `width`; the tensors
        // are contiguous and of these extents.
        unsafe {
            norm_forward_kernel::launch_unchecked(
                &client,
                spread(rows),
                cube_dim(),
                x.into_tensor_arg(),
                weight.into_tensor_arg(),
                normed.clone().into_tensor_arg(),
                scales.clone().into_tensor_arg(),
                rows,
                width,
                epsilon,
                elements,
            );
        }
        (normed, scales)
    }

    fn norm_apply(
        x: CubeTensor,
        weight: CubeTensor,
        scales: CubeTensor,
        dtype: DType,
    ) -> CubeTensor {
        let [x, weight, scales] = [x, weight, scales].map(into_contiguous);
        let [rows, width] = x.meta.shape().dims();
        let normed = empty(&x, [rows, width], dtype);
        let client = x.client.clone();
        let elements = [x.dtype, weight.dtype, dtype].map(element);
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: a unit below `rows · width` reads and writes one element, its row's scale and its
        // column's weight; the tensors are contiguous and of these extents.
        unsafe {
            norm_apply_kernel::launch_unchecked(
                &client,
                spread_elements(rows * width),
                cube_dim(),
                x.into_tensor_arg(),
                weight.into_tensor_arg(),
                scales.into_tensor_arg(),
                normed.clone().into_tensor_arg(),
                rows * width,
                width,
                elements,
            );
        }
        normed
    }

    fn norm_backward(
        x: CubeTensor,
        weight: CubeTensor,
        scales: CubeTensor,
        upstream: CubeTensor,
        residual: CubeTensor,
        replaces: bool,
    ) -> (CubeTensor, CubeTensor) {
        let [x, weight, scales, upstream] = [x, weight, scales, upstream].map(into_contiguous);
        let [rows, width] = x.meta.shape().dims();
        let dw = weight_gradient(&x, &scales, &upstream);
        let dx = if replaces { empty(&x, [rows, width], residual.dtype) } else { owned(residual) };
        let client = x.client.clone();
        let elements = [x.dtype, weight.dtype, upstream.dtype, dx.dtype].map(element);
        #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
        // SAFETY: as in the forward pass; nobody else holds what is written.
        unsafe {
            norm_backward_kernel::launch_unchecked(
                &client,
                spread(rows),
                cube_dim(),
                x.into_tensor_arg(),
                weight.into_tensor_arg(),
                scales.into_tensor_arg(),
                upstream.into_tensor_arg(),
                dx.clone().into_tensor_arg(),
                rows,
                width,
                replaces,
                elements,
            );
        }
        (dx, dw)
    }
}

/// The gradient of the weight, `[1, d]`: sums over parts of the rows, then over the parts.
fn weight_gradient(x: &CubeTensor, scales: &CubeTensor, upstream: &CubeTensor) -> CubeTensor {
    let [rows, width] = x.meta.shape().dims();
    // Along the second axis of a launch there may be 65,535 cubes.
    let part_rows = PART_ROWS.max(rows.div_ceil(32_768));
    let count = rows.div_ceil(part_rows);
    let parts = empty(x, [count, width], DType::F32);
    let sums = empty(x, [1, width], DType::F32);
    let columns = width.div_ceil(UNITS) as u32;
    #[expect(unsafe_code, reason = "the kernels are launched without checks of bounds")]
    // SAFETY: units take columns below `width` and, of `count` parts, rows below `rows`; the tensors
    // are contiguous and of these extents.
    unsafe {
        norm_weight_kernel::launch_unchecked(
            &x.client,
            CubeCount::Static(columns, count as u32, 1),
            cube_dim(),
            x.clone().into_tensor_arg(),
            scales.clone().into_tensor_arg(),
            upstream.clone().into_tensor_arg(),
            parts.clone().into_tensor_arg(),
            rows,
            width,
            part_rows,
            [x.dtype, upstream.dtype].map(element),
        );
        sum_parts_kernel::launch_unchecked(
            &x.client,
            spread_elements(width),
            cube_dim(),
            parts.into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            count,
            width,
        );
    }
    sums
}
