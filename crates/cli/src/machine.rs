//! What this machine has: cores, memory, disk, limits.

pub(crate) mod libraries;
pub(crate) mod programs;

use std::path::Path;

use serde::Serialize;

/// The memory that this process can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// All of it: the machine's, or less where a control group sets a limit.
    pub(crate) total_bytes: u64,
    /// What is not taken yet.
    pub(crate) available_bytes: u64,
    /// Whether a control group sets the limit.
    pub(crate) limited: bool,
}

/// The disk that a folder lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Disk {
    /// The folder that was asked for.
    pub(crate) path: String,
    /// What an ordinary user can still write.
    pub(crate) free_bytes: u64,
    /// Its size.
    pub(crate) total_bytes: u64,
}

/// The processor, as far as speed depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Processor {
    /// What it calls itself.
    pub(crate) name: String,
    /// The threads that this process may run at one time.
    pub(crate) threads: usize,
    /// The instruction sets that the tensor library can use, and whether they are there.
    pub(crate) features: Vec<CpuFeature>,
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CpuFeature {
    /// Its name, as the compiler spells it.
    pub(crate) name: &'static str,
    /// Whether this processor has it.
    pub(crate) present: bool,
}

/// Asks the system for memory.
pub(crate) fn memory() -> Memory {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let (total, available) = (system.total_memory(), system.available_memory());
    match system.cgroup_limits() {
        Some(group) if group.total_memory > 0 && group.total_memory < total => Memory {
            total_bytes: group.total_memory,
            available_bytes: group.free_memory.min(available),
            limited: true,
        },
        _ => Memory { total_bytes: total, available_bytes: available, limited: false },
    }
}

/// Asks the system for the processor.
pub(crate) fn processor() -> Processor {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
    Processor {
        name: brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| "unknown".to_owned()),
        threads: threads(),
        features: cpu_features(),
    }
}

/// The threads that this process may run at one time; affinity and control groups count.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Asks for the disk that `path` lies on, or will lie on: a folder that is not there yet counts as
/// its nearest parent.
pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find(|folder| folder.exists())?;
    let numbers = rustix::fs::statvfs(existing).ok()?;
    Some(Disk {
        path: absolute.display().to_string(),
        free_bytes: numbers.f_bavail.saturating_mul(numbers.f_frsize),
        total_bytes: numbers.f_blocks.saturating_mul(numbers.f_frsize),
    })
}

/// The number of files that this process may hold open; none if there is no limit.
pub(crate) fn open_files_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<CpuFeature> {
    macro_rules! detect {
        ($($name:tt),*) => {
            vec![$(CpuFeature { name: $name, present: is_x86_feature_detected!($name) }),*]
        };
    }
    let mut features = detect!(
        "sse4.2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16"
    );
    features.push(CpuFeature { name: "amx-tile", present: has_amx() });
    features
}

/// The compiler's own detection of AMX is not stable yet: the leaf that says it is read here.
///
/// # Source
///
/// Intel SDM volume 2A, CPUID leaf 7, EDX bit 24.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (1 << 24) != 0
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<CpuFeature> {
    macro_rules! detect {
        ($($name:tt),*) => {
            vec![$(CpuFeature {
                name: $name,
                present: std::arch::is_aarch64_feature_detected!($name),
            }),*]
        };
    }
    detect!("neon", "fp16", "bf16", "dotprod", "i8mm", "sve", "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<CpuFeature> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something() {
        let memory = memory();
        assert!(memory.total_bytes > 0 && memory.available_bytes <= memory.total_bytes);
        assert!(processor().threads > 0);
    }

    #[test]
    fn a_folder_to_be_made_lies_where_its_parent_does() {
        let home = tempfile::tempdir().unwrap();
        let here = disk(home.path()).unwrap();
        let there = disk(&home.path().join("not/yet/made")).unwrap();
        assert_eq!(here.total_bytes, there.total_bytes);
        assert!(here.free_bytes <= here.total_bytes);
    }
}
