//! A shuffle that is a function: position in, window out, no table.

use terrace_base::SeedStream;

/// Enough that both halves have been mixed into each other four times over.
const ROUNDS: usize = 8;

/// A pseudo-random permutation of `0..windows`.
///
/// A Feistel network over the least power of two that holds the range, with halves that may differ
/// by one bit so that the range is at least half of the domain; positions that fall outside walk on
/// along their cycle, at most twice on average.
///
/// # Determinism
///
/// A pure function of the stream and the range.
///
/// # Source
///
/// Black and Rogaway, "Ciphers with arbitrary finite domains" (2002), the cycle-walking cipher.
/// Not meant to resist an adversary: the round function is a 64-bit mixer, not a cipher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feistel {
    windows: u64,
    low_bits: u32,
    low_mask: u64,
    high_mask: u64,
    rounds: [SeedStream; ROUNDS],
}

impl Feistel {
    /// The permutation of `0..windows` that belongs to `stream`.
    pub(super) fn new(windows: u64, stream: SeedStream) -> Self {
        assert!(windows > 0, "a permutation of nothing");
        let bits = u64::BITS - (windows - 1).leading_zeros();
        let low_bits = bits.div_ceil(2);
        Self {
            windows,
            low_bits,
            low_mask: mask(low_bits),
            high_mask: mask(bits - low_bits),
            rounds: std::array::from_fn(|round| stream.substream(round as u64)),
        }
    }

    /// The window at `position`.
    pub(super) fn at(&self, position: u64) -> u64 {
        assert!(position < self.windows, "position {position} of {}", self.windows);
        let mut value = self.encrypt(position);
        // The walk ends: the cycle that leaves the range comes back to `position` at the latest.
        while value >= self.windows {
            value = self.encrypt(value);
        }
        value
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mut low = value & self.low_mask;
        let mut high = value >> self.low_bits;
        for pair in self.rounds.chunks_exact(2) {
            high ^= pair[0].at(low) & self.high_mask;
            low ^= pair[1].at(high) & self.low_mask;
        }
        high << self.low_bits | low
    }
}

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use terrace_base::Seed;

    use super::*;

    fn permutation(windows: u64, seed: u64) -> Feistel {
        Feistel::new(windows, Seed(seed).stream("feistel"))
    }

    fn is_bijection(windows: u64, seed: u64) -> bool {
        let feistel = permutation(windows, seed);
        let mut seen = vec![false; windows as usize];
        (0..windows).all(|i| !std::mem::replace(&mut seen[feistel.at(i) as usize], true))
    }

    #[test]
    fn ranges_at_the_edges_are_permuted() {
        for power in 0..9 {
            let four = 4u64.pow(power);
            for windows in [four - 1, four, four + 1, 2 * four].into_iter().filter(|n| *n > 0) {
                assert!(is_bijection(windows, 3), "{windows}");
            }
        }
        assert!(is_bijection(1_000_003, 3));
    }

    #[test]
    fn small_ranges_reach_many_orders() {
        let orders = |windows: u64| {
            let mut orders: Vec<Vec<u64>> = (0..300)
                .map(|seed| {
                    let feistel = permutation(windows, seed);
                    (0..windows).map(|i| feistel.at(i)).collect()
                })
                .collect();
            orders.sort();
            orders.dedup();
            orders.len()
        };
        assert_eq!(orders(1), 1);
        assert_eq!(orders(2), 2);
        assert_eq!(orders(3), 6);
        assert!(orders(9) > 250);
    }

    proptest! {
        #[test]
        fn any_range_is_permuted(windows in 1u64..3000, seed in any::<u64>()) {
            prop_assert!(is_bijection(windows, seed));
        }

        #[test]
        fn huge_ranges_stay_in_range(windows in 1u64..=1 << 40, seed in any::<u64>()) {
            let feistel = permutation(windows, seed);
            let positions = [0, windows / 3, windows - 1];
            let images = positions.map(|p| feistel.at(p));
            prop_assert!(images.iter().all(|w| *w < windows));
            prop_assert!(positions[0] == positions[2] || images[0] != images[2]);
        }
    }
}
