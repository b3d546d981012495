//! What of CUDA is on this machine, found without loading any of it.

use std::path::PathBuf;

use serde::Serialize;

use super::DriverProblem;
use crate::environment::Environment;
use crate::machine::{libraries, programs};

/// CUDA's parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cuda {
    /// The driver's library.
    pub(crate) driver: Option<PathBuf>,
    /// The library that compiles kernels at run time.
    pub(crate) nvrtc: Option<PathBuf>,
    /// The cards that `nvidia-smi` lists.
    pub(crate) cards: Vec<Card>,
    /// Why the cards are not known.
    pub(crate) cards_unknown: Option<String>,
}

/// One card.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Card {
    /// What it calls itself.
    pub(crate) name: String,
    /// All its memory.
    pub(crate) memory_total_bytes: u64,
    /// What is not taken.
    pub(crate) memory_free_bytes: u64,
    /// The version of the driver.
    pub(crate) driver_version: String,
    /// The compute capability, such as `9.0`.
    pub(crate) compute_capability: String,
}

const QUERY: [&str; 2] = [
    "--query-gpu=name,memory.total,memory.free,driver_version,compute_cap",
    "--format=csv,noheader,nounits",
];

impl Cuda {
    /// Looks for the libraries and asks `nvidia-smi` for the cards.
    pub(crate) fn look(environment: &Environment) -> Self {
        let mut cuda = Self {
            driver: libraries::find(environment, "libcuda.so"),
            nvrtc: libraries::find(environment, "libnvrtc.so"),
            ..Self::default()
        };
        match programs::output(environment, "nvidia-smi", &QUERY) {
            Ok(text) => cuda.cards = text.lines().filter_map(parse_card).collect(),
            Err(reason) => cuda.cards_unknown = Some(reason),
        }
        cuda
    }

    /// Whether the card with this index can be used, as far as can be seen from outside.
    ///
    /// A container can have a driver and no `nvidia-smi`: unknown cards are not an error.
    pub(crate) fn check(&self, index: usize) -> Result<(), DriverProblem> {
        let problem = |message: String, remedy: &str| {
            Err(DriverProblem { message, remedy: remedy.to_owned() })
        };
        if self.driver.is_none() {
            return problem(
                "the CUDA driver is not there: no libcuda.so".to_owned(),
                "install the NVIDIA driver, or start the container with its GPUs",
            );
        }
        if self.nvrtc.is_none() {
            return problem(
                "the CUDA runtime compiler is not there: no libnvrtc.so".to_owned(),
                "install the CUDA toolkit's NVRTC, or add its folder to LD_LIBRARY_PATH",
            );
        }
        if self.cards_unknown.is_none() && index >= self.cards.len() {
            let message = format!("there is no CUDA card {index}: {} found", self.cards.len());
            return problem(message, "choose one of those that `terrace doctor` lists");
        }
        Ok(())
    }
}

fn parse_card(line: &str) -> Option<Card> {
    const MIB: u64 = 1 << 20;
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [name, total, free, driver_version, compute_capability] = fields[..] else { return None };
    Some(Card {
        name: name.to_owned(),
        memory_total_bytes: total.parse::<u64>().ok()? * MIB,
        // Some shared cards do not say.
        memory_free_bytes: free.parse::<u64>().unwrap_or(0) * MIB,
        driver_version: driver_version.to_owned(),
        compute_capability: compute_capability.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Cuda {
        Cuda {
            driver: Some("/usr/lib/libcuda.so.1".into()),
            nvrtc: Some("/usr/lib/libnvrtc.so.12".into()),
            cards: parse_card("NVIDIA H100 80GB HBM3, 81559, 81008, 550.90.07, 9.0")
                .into_iter()
                .collect(),
            cards_unknown: None,
        }
    }

    #[test]
    fn cards_are_read() {
        let card = &whole().cards[0];
        assert_eq!(card.name, "NVIDIA H100 80GB HBM3");
        assert_eq!(card.memory_total_bytes, 81_559 << 20);
        assert_eq!(card.compute_capability, "9.0");
        assert_eq!(parse_card("No devices were found"), None);
        assert_eq!(parse_card("a, b, c, d, e"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(whole().check(0), Ok(()));
        let message = |cuda: Cuda, index| cuda.check(index).unwrap_err().message;
        assert!(message(whole(), 1).contains("card 1: 1 found"));
        assert!(message(Cuda { driver: None, ..whole() }, 0).contains("libcuda"));
        assert!(message(Cuda { nvrtc: None, ..whole() }, 0).contains("libnvrtc"));
        let unknown = Some("nvidia-smi is not there".to_owned());
        assert_eq!(Cuda { cards: vec![], cards_unknown: unknown, ..whole() }.check(3), Ok(()));
    }
}
