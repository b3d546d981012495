//! Multiplying stored values, whatever their element type.

use half::{bf16, f16};
use terrace_base::Dtype;

/// Multiplies the values in `bytes`, rounding to nearest, ties to even.
///
/// A factor of zero gives positive zeros, also from negative and from infinite values.
///
/// # Panics
///
/// The bytes end within a value: a bug of the caller.
pub(super) fn scale(bytes: &mut [u8], dtype: Dtype, factor: f64) {
    assert!(bytes.len().is_multiple_of(dtype.bytes()), "whole values");
    if factor == 0.0 {
        return bytes.fill(0);
    }
    let times = |value: f32| (f64::from(value) * factor) as f32;
    match dtype {
        Dtype::F32 => map(bytes, |b| times(f32::from_le_bytes(b)).to_le_bytes()),
        Dtype::F16 => {
            map(bytes, |b| f16::from_f32(times(f16::from_le_bytes(b).to_f32())).to_le_bytes());
        }
        Dtype::Bf16 => {
            map(bytes, |b| bf16::from_f32(times(bf16::from_le_bytes(b).to_f32())).to_le_bytes());
        }
        Dtype::I8 | Dtype::U8 => {
            unreachable!("a folder with integers is refused when it is opened")
        }
    }
}

fn map<const N: usize>(bytes: &mut [u8], f: impl Fn([u8; N]) -> [u8; N]) {
    for value in bytes.chunks_exact_mut(N) {
        let old = <[u8; N]>::try_from(&*value).expect("chunks are of this size");
        value.copy_from_slice(&f(old));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_multiplied_in_every_type() {
        let values = [1.0f32, -2.5, 0.0, 1e3];
        let mut f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        scale(&mut f32s, Dtype::F32, 0.5);
        assert_eq!(f32s, values.iter().flat_map(|v| (v / 2.0).to_le_bytes()).collect::<Vec<_>>());
        let mut halves: Vec<u8> =
            values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        scale(&mut halves, Dtype::F16, -1.0);
        let expected = values.iter().flat_map(|v| f16::from_f32(-v).to_le_bytes());
        assert_eq!(halves, expected.collect::<Vec<_>>());
        let mut brains: Vec<u8> = bf16::from_f32(f32::NEG_INFINITY).to_le_bytes().to_vec();
        scale(&mut brains, Dtype::Bf16, 0.0);
        assert_eq!(brains, [0, 0]);
    }
}
