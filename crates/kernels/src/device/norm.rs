//! Root-mean-square norms.

use burn::tensor::{DType, FloatDType, Tensor};

use super::kernel_or;

/// Norms rows as [`rms_norm`](crate::rms_norm) does; gives them, of `dtype`, and each row's factor
/// `1/sqrt(mean square + epsilon)`, f32.
///
/// # Shapes
///
/// `x` `[rows, d]`, `weight` `[1, d]`; gives `[rows, d]` and `[rows]`.
#[must_use]
pub fn norm_forward(
    x: Tensor<2>,
    weight: Tensor<2>,
    epsilon: f64,
    dtype: DType,
) -> (Tensor<2>, Tensor<1>) {
    kernel_or!(
        super::runs(&x.device()),
        crate::cube::norm_forward(x, weight, epsilon, dtype),
        composed_forward(x, weight, epsilon, dtype)
    )
}

fn composed_forward(
    x: Tensor<2>,
    weight: Tensor<2>,
    epsilon: f64,
    dtype: DType,
) -> (Tensor<2>, Tensor<1>) {
    let [rows, _] = x.dims();
    let square = x.clone().cast(FloatDType::F32).square().mean_dim(1);
    let scales = (square + epsilon).sqrt().recip().reshape([rows]);
    (composed_apply(x, weight, scales.clone(), dtype), scales)
}

/// The same from the known factors.
#[must_use]
pub fn norm_apply(x: Tensor<2>, weight: Tensor<2>, scales: Tensor<1>, dtype: DType) -> Tensor<2> {
    kernel_or!(
        super::runs(&x.device()),
        crate::cube::norm_apply(x, weight, scales, dtype),
        composed_apply(x, weight, scales, dtype)
    )
}

fn composed_apply(x: Tensor<2>, weight: Tensor<2>, scales: Tensor<1>, dtype: DType) -> Tensor<2> {
    let scales = scales.reshape([x.dims()[0], 1]);
    (x.cast(FloatDType::F32) * scales * weight.cast(FloatDType::F32)).cast(dtype)
}

/// The gradient of the rows, added to `residual` if there is one, and that of the weight, f32, given
/// that of the norms.
///
/// # Shapes
///
/// `x`, `upstream` and `residual` `[rows, d]`, `weight` `[1, d]`, `scales` `[rows]`; gives `[rows, d]`,
/// of the element type of `residual` or `x`, and `[1, d]`.
#[must_use]
pub fn norm_backward(
    x: Tensor<2>,
    weight: Tensor<2>,
    scales: Tensor<1>,
    upstream: Tensor<2>,
    residual: Option<Tensor<2>>,
) -> (Tensor<2>, Tensor<2>) {
    kernel_or!(
        super::runs(&x.device()),
        crate::cube::norm_backward(x, weight, scales, upstream, residual),
        composed_backward(x, weight, scales, upstream, residual)
    )
}

fn composed_backward(
    x: Tensor<2>,
    weight: Tensor<2>,
    scales: Tensor<1>,
    upstream: Tensor<2>,
    residual: Option<Tensor<2>>,
) -> (Tensor<2>, Tensor<2>) {
    let dtype = residual.as_ref().map_or(x.dtype(), Tensor::dtype);
    let scales = scales.reshape([x.dims()[0], 1]);
    let [x, weight, upstream] = [x, weight, upstream].map(|x| x.cast(FloatDType::F32));
    let unit = x * scales.clone();
    let dw = (unit.clone() * upstream.clone()).sum_dim(0);
    let slope = upstream * weight;
    let mean = (slope.clone() * unit.clone()).mean_dim(1);
    let dx = (slope - unit * mean) * scales;
    let dx = match residual {
        Some(residual) => residual.cast(FloatDType::F32) + dx,
        None => dx,
    };
    (dx.cast(dtype), dw)
}
