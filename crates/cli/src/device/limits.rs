//! What a card can do at most, by its maker's data sheet.

/// The limits that decide the speed of inference and training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Bytes of memory that can be read in a second.
    pub(crate) bytes_per_second: f64,
    /// Operations of dense bf16 products with sums in f32, in a second.
    pub(crate) bf16_flops: f64,
}

/// Parts of a card's name, all of which it has, with gigabytes and tera-operations a second; the
/// first that fits counts.
const CARDS: [(&[&str], f64, f64); 9] = [
    (&["H200"], 4800.0, 989.0),
    (&["H100", "PCIe"], 2000.0, 756.0),
    (&["H100", "80GB HBM3"], 3350.0, 989.0),
    (&["A100", "40GB"], 1555.0, 312.0),
    (&["A100", "80GB", "PCIe"], 1935.0, 312.0),
    (&["A100", "80GB"], 2039.0, 312.0),
    (&["RTX 4090"], 1008.0, 165.0),
    (&["RTX 3090"], 936.0, 71.0),
    (&["L40S"], 864.0, 362.0),
];

impl Limits {
    /// Those of a card, if they are known.
    pub(crate) fn of(card: &str) -> Option<Self> {
        let fits = |parts: &&[&str]| parts.iter().all(|part| card.contains(part));
        let found = CARDS.iter().find(|(parts, ..)| fits(parts))?;
        Some(Self { bytes_per_second: found.1 * 1e9, bf16_flops: found.2 * 1e12 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_told_apart_by_their_names() {
        let gigabytes = |card| Limits::of(card).map(|limits| limits.bytes_per_second / 1e9);
        assert_eq!(gigabytes("NVIDIA H100 80GB HBM3"), Some(3350.0));
        assert_eq!(gigabytes("NVIDIA H100 PCIe"), Some(2000.0));
        assert_eq!(gigabytes("NVIDIA A100-SXM4-40GB"), Some(1555.0));
        assert_eq!(gigabytes("NVIDIA A100 80GB PCIe"), Some(1935.0));
        assert_eq!(gigabytes("NVIDIA GeForce RTX 4090"), Some(1008.0));
        assert_eq!(gigabytes("NVIDIA GeForce GTX 1080"), None);
    }

    #[test]
    fn peaks_are_dense_ones() {
        // The data sheets' first lines are twice as high: with structured sparsity.
        let peak = |card| Limits::of(card).map(|limits| limits.bf16_flops / 1e12);
        assert_eq!(peak("NVIDIA H100 80GB HBM3"), Some(989.0));
        assert_eq!(peak("NVIDIA A100-SXM4-80GB"), Some(312.0));
    }
}
