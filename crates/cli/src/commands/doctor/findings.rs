//! Looking at the machine.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::device::{BACKENDS, Backend, Cuda, Vulkan};
use crate::environment::Environment;
use crate::machine::{self, Disk, Memory, Processor};

/// What was found, before anybody judges it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Findings {
    /// The system and its architecture.
    pub(crate) platform: String,
    /// The processor.
    pub(crate) processor: Processor,
    /// The memory.
    pub(crate) memory: Memory,
    /// The disks of this folder and of the one for temporary files.
    pub(crate) disks: Vec<Disk>,
    /// The number of files that may be open at one time; null if there is no limit.
    pub(crate) open_files_limit: Option<u64>,
    /// The kinds of devices, and which are compiled in.
    pub(crate) backends: Vec<Backend>,
    /// What of CUDA is there.
    pub(crate) cuda: Cuda,
    /// What of Vulkan is there.
    pub(crate) vulkan: Vulkan,
    /// Programs that something in Terrace can use.
    pub(crate) tools: Vec<Tool>,
}

/// A program that something in Terrace can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Tool {
    /// Its name.
    pub(crate) name: &'static str,
    /// What for.
    pub(crate) purpose: &'static str,
    /// Where it is.
    pub(crate) path: Option<PathBuf>,
}

const TOOLS: [(&str, &str); 6] = [
    ("git", "to get the sources and to say which version ran"),
    ("python3", "to make golden fixtures and sample data again"),
    ("nvidia-smi", "to see the cards and their memory"),
    ("nvcc", "to look into CUDA problems; kernels are compiled without it"),
    ("mpirun", "to start ranks on several machines"),
    ("tensorboard", "to draw the curves of a run"),
];

impl Findings {
    /// Looks at this machine.
    pub(crate) fn look(environment: &Environment) -> Self {
        let here = Path::new(".");
        let disks = [here, &environment.temporary_folder].into_iter().filter_map(machine::disk);
        let tools = TOOLS.into_iter().map(|(name, purpose)| Tool {
            name,
            purpose,
            path: environment.find_program(name),
        });
        Self {
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: machine::processor(),
            memory: machine::memory(),
            disks: disks.collect(),
            open_files_limit: machine::open_files_limit(),
            backends: BACKENDS.to_vec(),
            cuda: Cuda::look(environment),
            vulkan: Vulkan::look(environment),
            tools: tools.collect(),
        }
    }
}
