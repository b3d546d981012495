//! Rotary position embedding, half-split as Hugging Face's Llama has it.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

/// Cosines and sines of every position and frequency.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl RopeTable {
    /// Computes the table for positions `0..positions`.
    ///
    /// # Source
    ///
    /// RoFormer (arXiv 2104.09864), frequencies `theta^(-2i/h)`.
    ///
    // NUMERICS: in f64, then rounded: an f32 product of position and frequency is off by more
    // than an f32 cosine should be from position 1,000 on.
    #[must_use]
    pub fn new(positions: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let half = head_dim / 2;
        let angles = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..positions * half)
                .map(|i| {
                    let frequency = theta.powf(-2.0 * (i % half) as f64 / head_dim as f64);
                    f((i / half) as f64 * frequency) as f32
                })
                .collect();
            Tensor::from_data(TensorData::new(values, [positions, half]), device)
        };
        Self { cos: angles(f64::cos), sin: angles(f64::sin) }
    }

    /// Looks up the rows of a batch of positions.
    ///
    /// # Shapes
    ///
    /// `positions` `[b·t]`; gives cosine and sine, each `[b, t, 1, h/2]`.
    #[must_use]
    pub fn lookup(&self, positions: Tensor<1, Int>, [b, t]: [usize; 2]) -> (Tensor<4>, Tensor<4>) {
        let rows = |table: &Tensor<2>| {
            let half = table.dims()[1];
            table.clone().select(0, positions.clone()).reshape([b, t, 1, half])
        };
        (rows(&self.cos), rows(&self.sin))
    }
}

/// Rotates queries or keys by their position.
///
/// # Shapes
///
/// `x` `[b, t, n, h]`; `cos` and `sin` `[b, t, 1, h/2]`, f32; gives what `x` is, of its element type.
///
// PARITY: element `i` is paired with `i + h/2` (Hugging Face `rotate_half`), not with its
// neighbour as in Burn's own `RotaryEncoding`.
#[must_use]
pub fn rope(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>) -> Tensor<4> {
    let (half, dtype) = (x.dims()[3] / 2, x.dtype());
    let x = x.cast(FloatDType::F32);
    let first = x.clone().narrow(3, 0, half);
    let second = x.narrow(3, half, half);
    let rotated_first = first.clone() * cos.clone() - second.clone() * sin.clone();
    let rotated_second = second * cos + first * sin;
    Tensor::cat(vec![rotated_first, rotated_second], 3).cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_swaps_the_halves() {
        let device = Device::flex();
        let x = Tensor::<4>::from_floats([[[[1.0, 2.0, 3.0, 4.0]]]], &device);
        let zero = Tensor::<4>::zeros([1, 1, 1, 2], &device);
        let one = Tensor::<4>::ones([1, 1, 1, 2], &device);
        let y: Vec<f32> = rope(x, zero, one).into_data().try_to_vec().unwrap();
        assert_eq!(y, [-3.0, -4.0, 1.0, 2.0]);
    }
}
