//! Operations on one element, or a few, of each of some tensors of one shape: a unit for each.

use cubecl::prelude::*;

/// Rotates pairs `(i, i + half)` of each head, in place; with `back`, the other way round.
#[cube(launch_unchecked)]
pub(crate) fn rotate_kernel<X: Float>(
    x: &mut Tensor<X>,
    cos: &Tensor<f32>,
    sin: &Tensor<f32>,
    total: usize,
    heads: usize,
    half: usize,
    #[comptime] back: bool,
    #[define(X)] _element: ElemType,
) {
    if ABSOLUTE_POS < total {
        let head = ABSOLUTE_POS / half;
        let i = ABSOLUTE_POS % half;
        let angle = head / heads * half + i;
        let c = cos[angle];
        let mut s = sin[angle];
        if back {
            s = -s;
        }
        let place = head * 2 * half + i;
        let first = f32::cast_from(x[place]);
        let second = f32::cast_from(x[place + half]);
        x[place] = X::cast_from(first * c - second * s);
        x[place + half] = X::cast_from(second * c + first * s);
    }
}

/// `silu(gate) · up`.
#[cube(launch_unchecked)]
pub(crate) fn gate_kernel<X: Float>(
    gate: &Tensor<X>,
    up: &Tensor<X>,
    gated: &mut Tensor<X>,
    total: usize,
    #[define(X)] _element: ElemType,
) {
    if ABSOLUTE_POS < total {
        let g = f32::cast_from(gate[ABSOLUTE_POS]);
        let u = f32::cast_from(up[ABSOLUTE_POS]);
        gated[ABSOLUTE_POS] = X::cast_from(g / (1.0f32 + (-g).exp()) * u);
    }
}

/// In place of `gate` and `up` their gradients, and in place of the gated product's gradient what the
/// product was.
#[cube(launch_unchecked)]
pub(crate) fn gate_backward_kernel<X: Float>(
    gate: &mut Tensor<X>,
    up: &mut Tensor<X>,
    upstream: &mut Tensor<X>,
    total: usize,
    #[define(X)] _element: ElemType,
) {
    if ABSOLUTE_POS < total {
        let g = f32::cast_from(gate[ABSOLUTE_POS]);
        let u = f32::cast_from(up[ABSOLUTE_POS]);
        let dy = f32::cast_from(upstream[ABSOLUTE_POS]);
        let sigmoid = 1.0f32 / (1.0f32 + (-g).exp());
        let silu = g * sigmoid;
        gate[ABSOLUTE_POS] = X::cast_from(dy * u * sigmoid * (1.0f32 + g - silu));
        up[ABSOLUTE_POS] = X::cast_from(dy * silu);
        upstream[ABSOLUTE_POS] = X::cast_from(silu * u);
    }
}
