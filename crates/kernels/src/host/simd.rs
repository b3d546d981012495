//! Loops compiled for several instruction sets, chosen when the program runs.

/// Compiles a function for AVX-512, for AVX2 and for the baseline, and calls the widest that the
/// processor has.
///
/// All copies do the same operations in the same order (nothing here fuses a product with a sum), so
/// that they give the same bits.
macro_rules! simd {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$attribute])*
        $visibility fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn generic($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn wide($($argument: $kind),*) $(-> $result)? {
                    generic($($argument),*)
                }

                #[target_feature(enable = "avx2")]
                fn narrow($($argument: $kind),*) $(-> $result)? {
                    generic($($argument),*)
                }

                match $crate::host::simd::level() {
                    $crate::host::simd::Level::Wide => {
                        #[expect(unsafe_code, reason = "a call into code for one instruction set")]
                        // SAFETY: `level` has found that the processor has these instructions.
                        return unsafe { wide($($argument),*) };
                    }
                    $crate::host::simd::Level::Narrow => {
                        #[expect(unsafe_code, reason = "a call into code for one instruction set")]
                        // SAFETY: `level` has found that the processor has these instructions.
                        return unsafe { narrow($($argument),*) };
                    }
                    $crate::host::simd::Level::Baseline => {}
                }
            }
            generic($($argument),*)
        }
    };
}

pub(super) use simd;

/// The instruction set that a loop is compiled for.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) enum Level {
    /// 512 bits at a time.
    Wide,
    /// 256 bits at a time.
    Narrow,
    /// What every processor of the target has.
    Baseline,
}

/// The widest instruction set of this processor. The standard library remembers what it found.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn level() -> Level {
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if wide {
        Level::Wide
    } else if is_x86_feature_detected!("avx2") {
        Level::Narrow
    } else {
        Level::Baseline
    }
}

/// The elements of one vector of the widest instruction set; partial sums are kept in as many lanes
/// on every processor.
pub(super) const LANES: usize = 16;

/// The sum of the lanes, in pairs.
#[inline(always)]
pub(super) fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    // Were the pairs seen by the compiler, it would fill the lanes in pairs too, in vectors of two.
    let mut lanes = std::hint::black_box(lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The inner product of two slices of one length.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    sum_lanes(lanes) + rest
}
