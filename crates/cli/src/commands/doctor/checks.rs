//! Judging what was found; nothing is looked at here.

use serde::Serialize;
use terrace_base::format_bytes;

use super::findings::{Findings, Tool};
use crate::device::{Backend, how_to_build};
use crate::machine::{CpuFeature, Disk, Processor};

/// Below this, a checkpoint of even a small model and its prepared data do not fit.
const LITTLE_DISK: u64 = 10 << 30;
/// Below this, the quickstart swaps.
const LITTLE_MEMORY: u64 = 2 << 30;
/// A preparation holds one file open per partition and thread, a run one per shard.
const FEW_FILES: u64 = 1024;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: String,
    /// Whether that is good.
    pub(crate) status: Status,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it, where that is not good.
    pub(crate) remedy: Option<String>,
}

/// Whether a finding is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It is.
    Ok,
    /// It is there, and something about it will hurt.
    Warn,
    /// It is not there; whoever does not need it can ignore that.
    Missing,
}

impl Status {
    /// The word that a person reads.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        }
    }
}

/// Judges everything that was found, in the order in which it is shown.
pub(crate) fn judge(findings: &Findings) -> Vec<Check> {
    let mut checks = vec![
        ok("platform", findings.platform.clone()),
        processor(&findings.processor),
        instructions(&findings.processor.features),
        memory(findings),
    ];
    checks.extend(findings.disks.iter().map(disk));
    checks.push(open_files(findings.open_files_limit));
    checks.extend(findings.backends.iter().map(backend));
    checks.extend(cuda(findings));
    checks.push(vulkan(findings));
    checks.extend(findings.tools.iter().map(tool));
    checks
}

fn processor(processor: &Processor) -> Check {
    let found = format!("{}, {} threads", processor.name, processor.threads);
    match processor.threads {
        0 | 1 => warn("processor", found, "give the process a second core: data is read beside"),
        _ => ok("processor", found),
    }
}

fn instructions(features: &[CpuFeature]) -> Check {
    let present: Vec<&str> =
        features.iter().filter(|feature| feature.present).map(|feature| feature.name).collect();
    let has = |name: &str| present.contains(&name);
    let found =
        if present.is_empty() { "none that is known".to_owned() } else { present.join(" ") };
    let (wide, name) = ("wide SIMD", "instructions");
    let fast = (has("avx2") && has("fma")) || has("neon");
    if fast {
        ok(name, found)
    } else {
        warn(name, found, &format!("training on this processor will crawl without {wide}"))
    }
}

fn memory(findings: &Findings) -> Check {
    let memory = findings.memory;
    let limited = if memory.limited { ", limited by a control group" } else { "" };
    let (available, total) = (memory.available_bytes, memory.total_bytes);
    let found = format!("{} free of {}{limited}", format_bytes(available), format_bytes(total));
    if available < LITTLE_MEMORY {
        let wanted = format_bytes(LITTLE_MEMORY);
        return warn("memory", found, &format!("free some: the quickstart wants {wanted}"));
    }
    ok("memory", found)
}

fn disk(disk: &Disk) -> Check {
    let name = format!("disk at {}", disk.path);
    let found =
        format!("{} free of {}", format_bytes(disk.free_bytes), format_bytes(disk.total_bytes));
    if disk.free_bytes < LITTLE_DISK {
        let remedy = "free some: checkpoints take 12 bytes per parameter each";
        return warn(&name, found, remedy);
    }
    ok(&name, found)
}

fn open_files(limit: Option<u64>) -> Check {
    let name = "open files";
    match limit {
        None => ok(name, "no limit".to_owned()),
        Some(limit) if limit < FEW_FILES => {
            warn(name, format!("{limit} at most"), &format!("`ulimit -n {FEW_FILES}`"))
        }
        Some(limit) => ok(name, format!("{limit} at most")),
    }
}

fn backend(backend: &Backend) -> Check {
    let name = format!("backend {}", backend.name);
    if backend.compiled_in {
        ok(&name, "compiled in".to_owned())
    } else {
        missing(&name, "not in this build", &how_to_build(backend.name))
    }
}

fn cuda(findings: &Findings) -> Vec<Check> {
    let cuda = &findings.cuda;
    let mut checks = vec![match &cuda.driver {
        Some(path) => ok("CUDA driver", path.display().to_string()),
        None => missing("CUDA driver", "no libcuda.so", "install the NVIDIA driver"),
    }];
    checks.push(match &cuda.nvrtc {
        Some(path) => ok("CUDA NVRTC", path.display().to_string()),
        None => missing("CUDA NVRTC", "no libnvrtc.so", "install the CUDA toolkit's NVRTC"),
    });
    checks.extend(cuda.cards.iter().enumerate().map(|(index, card)| {
        let free = format_bytes(card.memory_free_bytes);
        let total = format_bytes(card.memory_total_bytes);
        let found = format!(
            "{}, {free} free of {total}, compute {}, driver {}",
            card.name, card.compute_capability, card.driver_version
        );
        ok(&format!("device cuda:{index}"), found)
    }));
    if cuda.cards.is_empty() {
        let reason = cuda.cards_unknown.as_deref().unwrap_or("no card listed");
        let remedy = "put in a card and its driver, or start the container with its GPUs";
        checks.push(missing("device cuda", reason, remedy));
    }
    checks
}

fn vulkan(findings: &Findings) -> Check {
    match findings.vulkan.check() {
        Ok(()) => ok("device wgpu", format!("Vulkan: {}", findings.vulkan.drivers.join(", "))),
        Err(problem) => missing("device wgpu", &problem.message, &problem.remedy),
    }
}

fn tool(tool: &Tool) -> Check {
    match &tool.path {
        Some(path) => ok(tool.name, path.display().to_string()),
        None => missing(tool.name, "not there", &format!("install it {}", tool.purpose)),
    }
}

fn ok(name: &str, found: String) -> Check {
    Check { name: name.to_owned(), status: Status::Ok, found, remedy: None }
}

fn warn(name: &str, found: String, remedy: &str) -> Check {
    let remedy = Some(remedy.to_owned());
    Check { name: name.to_owned(), status: Status::Warn, found, remedy }
}

fn missing(name: &str, found: &str, remedy: &str) -> Check {
    let (found, remedy) = (found.to_owned(), Some(remedy.to_owned()));
    Check { name: name.to_owned(), status: Status::Missing, found, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Card, Cuda, Vulkan};
    use crate::machine::Memory;

    fn bare() -> Findings {
        Findings {
            platform: "linux x86_64".to_owned(),
            processor: Processor { name: "old".to_owned(), threads: 1, features: vec![] },
            memory: Memory { total_bytes: 1 << 30, available_bytes: 1 << 29, limited: true },
            disks: vec![Disk { path: "/".to_owned(), free_bytes: 1, total_bytes: 2 }],
            open_files_limit: Some(256),
            backends: vec![Backend { name: "cuda", compiled_in: false }],
            cuda: Cuda { cards_unknown: Some("nvidia-smi is not there".into()), ..Cuda::default() },
            vulkan: Vulkan::default(),
            tools: vec![Tool { name: "git", purpose: "to get it", path: None }],
        }
    }

    fn rich() -> Findings {
        let feature = |name| CpuFeature { name, present: true };
        let card = Card {
            name: "card".to_owned(),
            memory_total_bytes: 80 << 30,
            memory_free_bytes: 79 << 30,
            driver_version: "550".to_owned(),
            compute_capability: "9.0".to_owned(),
        };
        Findings {
            platform: "linux x86_64".to_owned(),
            processor: Processor {
                name: "new".to_owned(),
                threads: 8,
                features: vec![feature("avx2"), feature("fma")],
            },
            memory: Memory { total_bytes: 64 << 30, available_bytes: 60 << 30, limited: false },
            disks: vec![Disk { path: "/".into(), free_bytes: 1 << 40, total_bytes: 2 << 40 }],
            open_files_limit: None,
            backends: vec![Backend { name: "cpu", compiled_in: true }],
            cuda: Cuda {
                driver: Some("/lib/libcuda.so.1".into()),
                nvrtc: Some("/lib/libnvrtc.so.12".into()),
                cards: vec![card.clone(), card],
                cards_unknown: None,
            },
            vulkan: Vulkan {
                loader: Some("/lib/libvulkan.so.1".into()),
                drivers: vec!["lvp_icd".to_owned()],
            },
            tools: vec![Tool { name: "git", purpose: "to get it", path: Some("/bin/git".into()) }],
        }
    }

    #[test]
    fn whatever_is_not_good_has_a_remedy() {
        for check in judge(&bare()).iter().filter(|check| check.status != Status::Ok) {
            assert!(check.remedy.as_deref().is_some_and(|text| !text.is_empty()), "{check:?}");
        }
        let bad = judge(&bare()).iter().filter(|check| check.status != Status::Ok).count();
        assert_eq!(bad, judge(&bare()).len() - 1, "only the platform is fine");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_good_machine_has_nothing_to_do() {
        let checks = judge(&rich());
        assert!(checks.iter().all(|check| check.status == Status::Ok), "{checks:?}");
        assert!(checks.iter().any(|check| check.name == "device cuda:1"));
    }
}
