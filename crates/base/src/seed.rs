//! Random bits as a function of where they are used, never of a generator's position.

use serde::{Deserialize, Serialize};

/// The one number that a run's randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// Names a stream of random bits; the same seed and name give the same stream.
    #[must_use]
    pub fn stream(self, name: &str) -> SeedStream {
        let mut hasher = blake3::Hasher::new_derive_key("terrace seed stream v1");
        hasher.update(&self.0.to_le_bytes());
        hasher.update(name.as_bytes());
        SeedStream { key: first_word(&hasher.finalize()) }
    }
}

/// Random bits addressed by a counter.
///
/// # Determinism
///
/// `at(i)` is a pure function of the stream and `i`: there is no position to save or restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedStream {
    key: u64,
}

impl SeedStream {
    /// The 64 bits at `counter`.
    ///
    /// # Source
    ///
    /// The output function of SplitMix64 (Steele, Lea and Flood 2014), applied twice with the key
    /// added in between, so that neighbouring counters and neighbouring keys share no structure.
    #[must_use]
    pub fn at(self, counter: u64) -> u64 {
        mix(mix(counter.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_add(self.key))
    }

    /// A float in `[0, 1)` with 53 random bits.
    #[must_use]
    pub fn unit(self, counter: u64) -> f64 {
        (self.at(counter) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A standard normal variate (Box and Muller 1958), from the counters `2i` and `2i + 1`.
    #[must_use]
    pub fn normal(self, counter: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit(2 * counter)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit(2 * counter + 1)).cos()
    }

    /// The stream that belongs to `index` within this one.
    #[must_use]
    pub fn substream(self, index: u64) -> Self {
        Self { key: self.at(index ^ 0x5bd1_e995_5bd1_e995) }
    }

    /// The 64-bit key itself, for ciphers that take one.
    #[must_use]
    pub fn key(self) -> u64 {
        self.key
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn first_word(hash: &blake3::Hash) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_and_addressed() {
        let stream = Seed(7).stream("mixture");
        assert_eq!(stream.at(3), Seed(7).stream("mixture").at(3));
        assert_ne!(stream.at(3), stream.at(4));
        assert_ne!(stream.at(3), Seed(7).stream("init").at(3));
        assert_ne!(stream.at(3), Seed(8).stream("mixture").at(3));
        assert_ne!(stream.substream(0).at(3), stream.substream(1).at(3));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let stream = Seed(1).stream("moments");
        let n = 100_000;
        let mean = (0..n).map(|i| stream.unit(i)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let normals: Vec<f64> = (0..n).map(|i| stream.normal(i)).collect();
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / n as f64;
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }

    // The stream is part of every run's identity: a change here silently re-orders all data.
    #[test]
    fn values_are_pinned() {
        let stream = Seed(17).stream("pin");
        assert_eq!([stream.at(0), stream.at(1)], PINNED);
    }

    const PINNED: [u64; 2] = [18_054_153_124_831_327_363, 9_201_613_734_717_179_306];
}
