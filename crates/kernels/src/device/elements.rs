//! Rotations and the gate.

use burn::tensor::activation::sigmoid;
use burn::tensor::{FloatDType, Tensor};

use super::kernel_or;

/// Rotates queries or keys by their positions, or back: the rotation's own gradient.
///
/// # Shapes
///
/// `x` `[rows, n·h]`; `cos` and `sin` `[rows, h/2]`, f32; gives what `x` is, of its element type.
///
// PARITY: element `i` is paired with `i + h/2`, as in `rope`.
#[must_use]
pub fn rotate(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>, back: bool) -> Tensor<2> {
    kernel_or!(
        super::runs(&x.device()),
        crate::cube::rotate(x, cos, sin, back),
        composed_rotate(x, cos, sin, back)
    )
}

fn composed_rotate(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>, back: bool) -> Tensor<2> {
    let ([rows, width], half) = (x.dims(), cos.dims()[1]);
    let [cos, sin] = [cos, sin].map(|angles| angles.reshape([rows, 1, 1, half]));
    let sin = if back { sin.neg() } else { sin };
    crate::rope(x.reshape([rows, 1, width / (2 * half), 2 * half]), cos, sin).reshape([rows, width])
}

/// `silu(gate) · up`, computed in f32.
///
/// # Shapes
///
/// Both `[rows, f]`; gives what they are, of their element type.
#[must_use]
pub fn gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    kernel_or!(super::runs(&gate.device()), crate::cube::gate(gate, up), crate::swiglu(gate, up))
}

/// The gradients of `gate` and `up`, given that of the gated product, and the product itself.
///
/// The kernel changes the three in place where nobody shares them.
///
/// # Shapes
///
/// All `[rows, f]`.
#[must_use]
pub fn gate_backward(gate: Tensor<2>, up: Tensor<2>, upstream: Tensor<2>) -> [Tensor<2>; 3] {
    kernel_or!(
        super::runs(&gate.device()),
        crate::cube::gate_backward(gate, up, upstream),
        composed_gate_backward(gate, up, upstream)
    )
}

fn composed_gate_backward(gate: Tensor<2>, up: Tensor<2>, upstream: Tensor<2>) -> [Tensor<2>; 3] {
    let dtype = gate.dtype();
    let [gate, up, upstream] = [gate, up, upstream].map(|x| x.cast(FloatDType::F32));
    let sigmoid = sigmoid(gate.clone());
    let silu = gate.clone() * sigmoid.clone();
    let d_gate = upstream.clone() * up.clone() * sigmoid * (gate - silu.clone() + 1.0);
    [d_gate, upstream * silu.clone(), silu * up].map(|x| x.cast(dtype))
}
