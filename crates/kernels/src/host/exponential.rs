//! A vectorised exponential.

/// `e^x` for `x ≤ 0`, branch-free so that a compiler can take several at once.
///
/// # Source
///
/// Cephes `expf`: `x = n·ln 2 + r` with `ln 2` in two parts, a polynomial of degree 5 in `r`, and
/// `2^n` put into the exponent; relative error below 2.5e-7. Below −87 the result is 0.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    // NaN is neither, and stays.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let e = p * r * r + r + 1.0;
    // The low bits of the shifted number are n itself: no conversion, which would saturate by
    // comparisons. NaN has other bits there, and times anything stays NaN.
    let power = shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_add(127) << 23;
    let scaled = e * f32::from_bits(power);
    if x < -87.0 { 0.0 } else { scaled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_two_units() {
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - expected).abs() <= 2.5e-7 * expected, "{x}: {found} {expected}");
        }
        assert_eq!(exp(-1000.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0.0f32.to_bits());
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert!(exp(f32::NAN).is_nan());
    }
}
