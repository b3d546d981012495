//! Finding a shared library without loading it: loading runs its code.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

const FOLDERS: [&str; 10] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
];

/// Where installers tell the loader about folders of their own.
const LOADER_CONFIGURATION: &str = "/etc/ld.so.conf.d";

/// Finds the library whose file name is `name` or `name` with a version after it.
pub(crate) fn find(environment: &Environment, name: &str) -> Option<PathBuf> {
    let usual = FOLDERS.iter().map(PathBuf::from);
    let configured = configured_folders(Path::new(LOADER_CONFIGURATION));
    let mut folders = environment.library_folders.iter().cloned().chain(usual).chain(configured);
    folders.find_map(|folder| find_in(&folder, name))
}

fn configured_folders(configuration: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(configuration) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .flat_map(|text| text.lines().map(|line| PathBuf::from(line.trim())).collect::<Vec<_>>())
        .filter(|folder| folder.is_absolute())
        .collect()
}

fn find_in(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    // The first in order, so that two versions do not take turns; a link into nothing is none.
    let mut found: Vec<String> =
        names.filter(|found| is_library(found, name) && folder.join(found).is_file()).collect();
    found.sort();
    Some(folder.join(found.into_iter().next()?))
}

fn is_library(found: &str, name: &str) -> bool {
    match found.strip_prefix(name) {
        Some(version) => version.is_empty() || version.starts_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_told_about_more_folders() {
        let home = tempfile::tempdir().unwrap();
        let text = b"# the toolkit\n/opt/toolkit/lib\n\n  /opt/more\n";
        terrace_base::fs::write_atomic(&home.path().join("toolkit.conf"), text).unwrap();
        let folders = configured_folders(home.path());
        assert_eq!(folders, [PathBuf::from("/opt/toolkit/lib"), PathBuf::from("/opt/more")]);
    }

    #[test]
    fn versions_are_found_and_other_libraries_are_not() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            terrace_base::fs::write_atomic(&home.path().join(name), b"").unwrap();
        };
        write("libcudart.so.12");
        let environment =
            Environment { library_folders: vec![home.path().to_owned()], ..Default::default() };
        assert_eq!(find_in(home.path(), "libcuda.so"), None);
        write("libcuda.so.1");
        assert_eq!(find(&environment, "libcuda.so"), Some(home.path().join("libcuda.so.1")));
    }
}
