//! What identifies an input file without its path.

use serde::{Deserialize, Serialize};
use terrace_base::Fingerprint;

use super::InputFile;
use crate::Result;

/// Files up to this size are hashed whole.
const WHOLE: u64 = 64 << 20;
/// Of larger ones, this many samples of [`SAMPLE`] bytes are, evenly spread from the first byte to
/// the last.
const SAMPLES: u64 = 64;
const SAMPLE: u64 = 64 << 10;

/// A file as the manifest remembers it.
///
/// It exists to notice that a preparation need not be repeated; the content of an edition is
/// hashed whatever the probe says. A change to a file of more than 64 MiB that keeps its size and
/// touches none of 64 samples of 64 KiB is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Its name, without its folder.
    pub(crate) name: String,
    /// Its format.
    pub(crate) format: terrace_config::Format,
    /// Its size.
    pub(crate) bytes: u64,
    /// Hash of the whole file or of its samples.
    pub(crate) blake3: Fingerprint,
}

/// Looks at a file.
pub(crate) fn probe(file: &InputFile) -> Result<Probe> {
    let content = file.open()?;
    let mut hasher = blake3::Hasher::new();
    for (offset, length) in pieces(file.size) {
        hasher.update(&content.range(offset, length).map_err(|error| file.failed(error))?);
    }
    Ok(Probe {
        name: file.name.clone(),
        format: file.format,
        bytes: file.size,
        blake3: Fingerprint(*hasher.finalize().as_bytes()),
    })
}

fn pieces(size: u64) -> Vec<(u64, u64)> {
    if size <= WHOLE {
        let step = 1 << 20;
        return (0..size).step_by(1 << 20).map(|at| (at, (size - at).min(step))).collect();
    }
    let last = u128::from(size - SAMPLE);
    (0..SAMPLES)
        .map(|index| {
            let offset = last * u128::from(index) / u128::from(SAMPLES - 1);
            (u64::try_from(offset).expect("within the file"), SAMPLE)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_covered_and_large_ones_sampled_to_the_end() {
        for size in [0, 1, 1 << 20, (1 << 20) + 1, WHOLE] {
            assert_eq!(pieces(size).iter().map(|&(_, length)| length).sum::<u64>(), size);
        }
        let samples = pieces(u64::MAX / 2);
        assert_eq!(samples.len(), 64);
        assert_eq!(samples[0].0, 0);
        assert_eq!(samples[63].0 + SAMPLE, u64::MAX / 2);
    }
}
