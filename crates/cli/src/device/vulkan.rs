//! What of Vulkan is on this machine, found without loading any of it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::DriverProblem;
use crate::environment::Environment;
use crate::machine::libraries;

/// Vulkan's parts; WebGPU stands on them (on a Mac it stands on Metal, which is always there).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Vulkan {
    /// The loader's library.
    pub(crate) loader: Option<PathBuf>,
    /// The drivers, by the names of the files that describe them.
    pub(crate) drivers: Vec<String>,
}

const DRIVER_FOLDERS: [&str; 3] =
    ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

impl Vulkan {
    /// Looks for the loader and for the descriptions of drivers.
    pub(crate) fn look(environment: &Environment) -> Self {
        let mut drivers: Vec<String> =
            DRIVER_FOLDERS.iter().flat_map(|folder| driver_names(Path::new(folder))).collect();
        drivers.sort();
        drivers.dedup();
        Self { loader: libraries::find(environment, "libvulkan.so"), drivers }
    }

    /// Whether a device can be expected.
    pub(crate) fn check(&self) -> Result<(), DriverProblem> {
        let missing = match (&self.loader, self.drivers.is_empty()) {
            _ if cfg!(not(target_os = "linux")) => return Ok(()),
            (Some(_), false) => return Ok(()),
            (None, _) => "the Vulkan loader is not there: no libvulkan.so.1",
            (Some(_), true) => "there is no Vulkan driver",
        };
        Err(DriverProblem {
            message: missing.to_owned(),
            remedy: "install the card's driver, or the software one \
                     (Debian: libvulkan1 mesa-vulkan-drivers)"
                .to_owned(),
        })
    }
}

fn driver_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_json_files() {
        let home = tempfile::tempdir().unwrap();
        for name in ["lvp_icd.x86_64.json", "README.md"] {
            terrace_base::fs::write_atomic(&home.path().join(name), b"{}").unwrap();
        }
        assert_eq!(driver_names(home.path()), ["lvp_icd.x86_64"]);
        assert!(driver_names(&home.path().join("missing")).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_loader_without_a_driver_is_not_enough() {
        let loader = Some(PathBuf::from("/usr/lib/libvulkan.so.1"));
        assert!(Vulkan::default().check().is_err());
        assert!(Vulkan { loader: loader.clone(), drivers: vec![] }.check().is_err());
        assert_eq!(Vulkan { loader, drivers: vec!["lvp".to_owned()] }.check(), Ok(()));
    }
}
