//! Stochastic rounding to the upper half of single precision.

use half::bf16;

/// The random bits of one update of one tensor: those of an element depend on this key and its place
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundingKey(pub u64);

/// The random bits of one element: 16 for each of three numbers.
#[derive(Clone, Copy)]
pub(crate) struct Bits {
    one: u32,
    other: u32,
}

impl Bits {
    #[inline(always)]
    pub(crate) fn parameter(self) -> u32 {
        self.one >> 16
    }

    #[inline(always)]
    pub(crate) fn first(self) -> u32 {
        self.one & 0xffff
    }

    #[inline(always)]
    pub(crate) fn second(self) -> u32 {
        self.other >> 16
    }
}

impl RoundingKey {
    /// The bits of the element at this place.
    ///
    /// # Source
    ///
    /// Each word is a permutation of 32 bits by Wellons ("lowbias32", 2018), twice, with half of the key
    /// added before each: a device has products of 32 bits.
    #[inline(always)]
    pub(crate) fn bits(self, place: u32) -> Bits {
        let one = scramble(scramble(place.wrapping_add(self.0 as u32)) ^ (self.0 >> 32) as u32);
        let other = scramble(one ^ 0x9e37_79b9);
        Bits { one, other }
    }
}

#[inline(always)]
fn scramble(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Rounds to one of the two neighbours, to the one above in magnitude with the chance that makes the
/// mean exact: `bits` are 16 random ones.
///
/// What is not finite stays what it is.
///
/// # Source
///
/// Zamirai et al. 2020 (arXiv 2010.06192): of an update that is smaller than half a step of the weight
/// nothing would ever be left if it were rounded to nearest.
#[inline(always)]
pub(crate) fn round(value: f32, bits: u32) -> bf16 {
    let word = value.to_bits();
    // One that is no number must not lose what says so with its lower half.
    let kept = if value.is_nan() { word | 0x0040_0000 } else { word };
    let moved = if value.is_finite() { word + bits } else { kept };
    bf16::from_bits((moved >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_mean_is_exact() {
        for value in [1.0f32, 1.001, -2.7081, 1e-3, 2.0f32.powi(-20) * 1.3] {
            let all: f64 = (0..1 << 16).map(|bits| f64::from(f32::from(round(value, bits)))).sum();
            let mean = all / f64::from(1 << 16);
            assert!((mean / f64::from(value) - 1.0).abs() < 1e-9, "{value}: {mean}");
        }
    }

    #[test]
    fn what_is_not_finite_stays() {
        for bits in [0, 0xffff] {
            assert_eq!(round(f32::INFINITY, bits), bf16::INFINITY);
            assert_eq!(round(f32::NEG_INFINITY, bits), bf16::NEG_INFINITY);
            assert!(round(f32::NAN, bits).is_nan());
            assert!(round(f32::from_bits(0x7f80_0001), bits).is_nan());
            assert!(round(f32::from_bits(0xffff_ffff), bits).is_nan());
        }
    }

    #[test]
    fn bits_are_even_and_do_not_repeat_from_step_to_step() {
        let count = 1u32 << 16;
        let key = RoundingKey(0x1234_5678_9abc_def0);
        let next = RoundingKey(key.0 ^ 0x0001_0000_0000_0000);
        let mean = |f: fn(Bits) -> u32| {
            (0..count).map(|i| f64::from(f(key.bits(i)))).sum::<f64>() / f64::from(count)
        };
        // The standard deviation of the mean is 2^16 / sqrt(12 · 2^16), about 74.
        for part in [Bits::parameter, Bits::first, Bits::second] {
            assert!((mean(part) - 32767.5).abs() < 5.0 * 74.0);
        }
        let same =
            |f: fn(Bits) -> u32| (0..count).filter(|i| f(key.bits(*i)) == f(next.bits(*i))).count();
        assert!(same(Bits::parameter) < 16, "one is expected by chance");
    }

    proptest! {
        #[test]
        fn it_is_one_of_the_neighbours(word: u32, bits in 0u32..1 << 16) {
            let value = f32::from_bits(word);
            prop_assume!(value.is_finite());
            let (found, below) = (round(value, bits), bf16::from_bits((word >> 16) as u16));
            let above = bf16::from_bits(((word >> 16) + 1) as u16);
            prop_assert!(found.to_bits() == below.to_bits() || found.to_bits() == above.to_bits());
            if word & 0xffff == 0 {
                prop_assert_eq!(f32::from(found).to_bits(), word);
            }
        }
    }
}
