//! How many windows each source is owed after a number of draws: exact, in integers.

/// The cumulative quota `A(t)` of one source within one segment, as a fraction of integers.
///
/// Weights of a segment are over a common total `W`. With constant weights `A(t) = t·w / W`. On a
/// ramp of `K` sequences from `w0` to `w1` it is `(2K·w0·t + (w1 − w0)·t²) / 2KW`, the integral of
/// the straight line. Summed over the sources both give exactly `t`.
///
/// # Source
///
/// Integrating the weight keeps the sum over sources exact at every `t`, which rounding a weight
/// per draw would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    start: u128,
    end: u128,
    total: u128,
    /// `K`; zero says that the weight is constant.
    ramp: u128,
}

impl Quota {
    /// A source that is always owed `weight` of `total`.
    pub(super) fn constant(weight: u128, total: u128) -> Self {
        Self { start: weight, end: weight, total, ramp: 0 }
    }

    /// A source whose weight goes in a straight line from `start` to `end` of `total`.
    pub(super) fn ramp(start: u128, end: u128, total: u128, sequences: u64) -> Self {
        Self { start, end, total, ramp: u128::from(sequences) }
    }

    /// Whether the source is ever drawn.
    pub(super) fn is_active(&self) -> bool {
        self.start > 0 || self.end > 0
    }

    /// The weights at both ends and their total.
    pub(super) fn weights(&self) -> [u128; 3] {
        [self.start, self.end, self.total]
    }

    /// `A(t)` times [`denominator`](Self::denominator).
    ///
    /// On a ramp, `t` is at most its length.
    pub(super) fn numerator(&self, t: u64) -> u128 {
        let t = u128::from(t);
        if self.ramp == 0 {
            return self.start * t;
        }
        // The same polynomial as above, with both terms non-negative for t ≤ K.
        self.start * t * (2 * self.ramp - t) + self.end * t * t
    }

    /// What [`numerator`](Self::numerator) is divided by.
    pub(super) fn denominator(&self) -> u128 {
        if self.ramp == 0 { self.total } else { 2 * self.ramp * self.total }
    }

    /// `⌈A(t)⌉`: no rule that stays within one sequence of the quota draws more.
    pub(super) fn ceiling(&self, t: u64) -> u64 {
        let windows = self.numerator(t).div_ceil(self.denominator());
        u64::try_from(windows).expect("a quota is at most the number of draws")
    }

    /// Whether `A(t) ≥ drawn + part / parts`.
    pub(super) fn has_reached(&self, t: u64, drawn: u64, part: u128, parts: u128) -> bool {
        parts * self.numerator(t) >= (u128::from(drawn) * parts + part) * self.denominator()
    }

    /// The least `t ≥ from` with `A(t) ≥ drawn + part / parts`; none up to `limit` is [`u64::MAX`].
    pub(super) fn first_reaching(
        &self,
        from: u64,
        limit: u64,
        drawn: u64,
        part: u128,
        parts: u128,
    ) -> u64 {
        if self.ramp == 0 {
            if self.start == 0 {
                return u64::MAX;
            }
            let owed = (u128::from(drawn) * parts + part) * self.total;
            let least = owed.div_ceil(parts * self.start).max(u128::from(from));
            return if least > u128::from(limit) { u64::MAX } else { least as u64 };
        }
        self.search(from, limit, |t| self.has_reached(t, drawn, part, parts))
    }

    /// The least `t` in `from..=limit` for which a monotone condition holds.
    ///
    /// Gallops first: the answer is near `from` as a rule, and a bisection of the whole segment
    /// would cost thrice as much.
    fn search(&self, from: u64, limit: u64, holds: impl Fn(u64) -> bool) -> u64 {
        if from > limit || !holds(limit) {
            return u64::MAX;
        }
        let (mut low, mut high, mut stride) = (from, from, 1u64);
        while !holds(high) {
            low = high + 1;
            high = high.saturating_add(stride).min(limit);
            stride = stride.saturating_mul(2);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

/// Whether every product that a segment's rule forms stays below 2¹²⁷.
///
/// The largest is `(c·m + m)·2KW` with `c ≤ K` and `m = 2n − 2`. The hardest plan in sight, 0.4T
/// windows of one token (39 bits), weights summing to 10⁹ (30 bits) and 16 sources (5 bits), takes
/// 1 + 2·39 + 30 + 5 = 114 bits on a ramp and 74 with constant weights. Start and end weights with
/// different sums are brought to their least common multiple, which can take 60 bits: such a ramp
/// may be refused, and the remedy is to write both with one sum.
pub(super) fn fits(ramp: bool, sequences: u64, total: u128, sources: usize) -> bool {
    let length = u128::from(sequences) + 1;
    let parts = 2 * sources as u128;
    let product = length.checked_mul(parts).and_then(|x| x.checked_mul(total));
    let product = if ramp { product.and_then(|x| x.checked_mul(2 * length)) } else { product };
    product.is_some_and(|x| x < 1 << 127)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hardest_plan_in_sight_fits() {
        assert!(fits(true, 400_000_000_000, 1_000_000_000, 16));
        assert!(fits(false, 1 << 40, 1 << 60, 1000));
        assert!(!fits(true, 400_000_000_000, 1 << 60, 16));
    }

    fn ramps() -> impl Strategy<Value = (u64, u64, u64, u64)> {
        (0u64..50, 0u64..50, 1u64..400).prop_map(|(a, b, k)| (a, b, a.max(b).max(1) + 7, k))
    }

    proptest! {
        #[test]
        fn quotas_are_monotone_and_complete((start, end, total, length) in ramps()) {
            let own = Quota::ramp(start.into(), end.into(), total.into(), length);
            let rest =
                Quota::ramp((total - start).into(), (total - end).into(), total.into(), length);
            for t in 0..=length {
                prop_assert!(t == 0 || own.numerator(t) >= own.numerator(t - 1));
                let sum = own.numerator(t) + rest.numerator(t);
                prop_assert_eq!(sum, u128::from(t) * own.denominator());
            }
        }

        #[test]
        fn the_search_finds_the_least(
            (start, end, total, length) in ramps(),
            drawn in 0u64..100,
            from in 0u64..100,
            constant in any::<bool>(),
        ) {
            let quota = if constant {
                Quota::constant(start.into(), total.into())
            } else {
                Quota::ramp(start.into(), end.into(), total.into(), length)
            };
            let expected = (from..=length).find(|t| quota.has_reached(*t, drawn, 3, 4));
            let found = quota.first_reaching(from, length, drawn, 3, 4);
            prop_assert_eq!(found, expected.unwrap_or(u64::MAX));
        }
    }
}
