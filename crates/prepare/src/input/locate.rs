//! Paths, globs, folders and URLs to files.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use terrace_config::{Format, Input};
use url::Url;

use super::refusal::refused;
use super::remote::Stores;
use super::{InputFile, Location};
use crate::{Error, Result};

/// Wildcards stay within one level of folders, and do not match hidden files.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The files that `inputs` name, in the order in which they are named; those that a folder or a
/// pattern stands for by path.
///
/// # Errors
///
/// A place holds no file, or the format of a file is not known.
pub(crate) fn locate(inputs: &[Input], options: &[(String, String)]) -> Result<Vec<InputFile>> {
    let mut stores = Stores::new(options);
    let mut files = Vec::new();
    for input in inputs {
        for place in &input.paths {
            let before = files.len();
            let mut found = Found { files: &mut files, format: input.format };
            match place.split_once("://") {
                Some(("file", _)) => local(&file_path(place)?, &mut found)?,
                Some(_) => remote(place, &mut stores, &mut found)?,
                None => local(Path::new(place), &mut found)?,
            }
            if files.len() == before {
                return Err(none(place, "no file of a known format is there"));
            }
        }
    }
    Ok(files)
}

fn none(place: &str, reason: impl std::fmt::Display) -> Error {
    Error::NoInput { place: place.to_owned(), reason: reason.to_string() }
}

fn file_path(url: &str) -> Result<PathBuf> {
    Url::parse(url)
        .map_err(|error| none(url, error))?
        .to_file_path()
        .map_err(|()| none(url, "it is not the URL of a local file"))
}

fn local(place: &Path, found: &mut Found<'_>) -> Result<()> {
    let text = place.to_string_lossy();
    if place.is_dir() {
        return folder(place, place, found);
    }
    if place.exists() || !text.contains(['*', '?', '[']) {
        return found.add_local(place, None);
    }
    // The crate yields matches in alphabetical order.
    for path in glob::glob_with(&text, MATCHING).map_err(|error| none(&text, error))? {
        let path = path.map_err(|error| none(&text, error))?;
        if path.is_file() {
            found.add_local(&path, None)?;
        }
    }
    Ok(())
}

/// Everything below a folder whose name says what it is, or all of it when the format is given.
fn folder(root: &Path, here: &Path, found: &mut Found<'_>) -> Result<()> {
    let mut entries = std::fs::read_dir(here)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|error| none(&here.to_string_lossy(), error))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if is_hidden(&name) {
            continue;
        }
        if path.is_dir() {
            folder(root, &path, found)?;
        } else if found.wants(&name) {
            found.add_local(&path, Some(root))?;
        }
    }
    Ok(())
}

fn remote(place: &str, stores: &mut Stores<'_>, found: &mut Found<'_>) -> Result<()> {
    // A `?` would begin the query of a URL, and `[` is not allowed in one.
    let wildcard = place.find('*');
    if wildcard.is_none() && !place.ends_with('/') {
        let (store, path) = stores.open(place)?;
        let file = store.file(path);
        let size = file.size().map_err(|error| refused(place, error))?;
        let name = place.rsplit('/').next().unwrap_or(place);
        return found.add(name, place.to_owned(), size, Location::Remote(file));
    }
    let fixed = &place[..=place[..wildcard.unwrap_or(place.len())].rfind('/').unwrap_or(0)];
    let (store, prefix) = stores.open(fixed)?;
    let pattern = wildcard.map(|_| Pattern::new(&place[fixed.len()..]));
    let pattern = pattern.transpose().map_err(|error| none(place, error))?;
    for listed in store.list(&prefix).map_err(|error| refused(place, error))? {
        let Some(parts) = listed.path.prefix_match(&prefix) else { continue };
        let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
        let wanted = match &pattern {
            Some(pattern) => pattern.matches_with(&name, MATCHING),
            None => found.wants(&name) && !name.split('/').any(is_hidden),
        };
        if wanted {
            let location = Location::Remote(store.file(listed.path));
            found.add(&name, format!("{fixed}{name}"), listed.size, location)?;
        }
    }
    Ok(())
}

/// Names that tools give to what is not data: `.crc` files, `_SUCCESS` markers.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// Collects files under one `[[inputs]]` entry.
struct Found<'a> {
    files: &'a mut Vec<InputFile>,
    format: Option<Format>,
}

impl Found<'_> {
    /// Whether a file that nobody named is wanted.
    fn wants(&self, name: &str) -> bool {
        self.format.is_some() || Format::of_name(name).is_some()
    }

    fn add_local(&mut self, path: &Path, root: Option<&Path>) -> Result<()> {
        let place = path.display().to_string();
        let size = std::fs::metadata(path).map_err(|error| none(&place, error))?.len();
        let name = match root.and_then(|root| path.strip_prefix(root).ok()) {
            Some(relative) => relative.to_string_lossy(),
            None => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy(),
        };
        self.add(&name, place, size, Location::Local(path.to_owned()))
    }

    fn add(&mut self, name: &str, place: String, size: u64, location: Location) -> Result<()> {
        let Some(format) = self.format.or_else(|| Format::of_name(name)) else {
            return Err(Error::UnknownFormat { file: place });
        };
        self.files.push(InputFile { name: name.to_owned(), place, format, size, location });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        terrace_base::fs::write_atomic(path, b"{}").unwrap();
    }

    fn names(paths: &[String], format: Option<Format>) -> Result<Vec<String>> {
        let input = Input { paths: paths.to_vec(), format };
        Ok(locate(&[input], &[])?.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn folders_patterns_files_and_urls_are_found_in_order() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        for name in ["b.jsonl", "a.parquet", "c/d.arrow", "README", ".x.jsonl", "c/_y.jsonl"] {
            touch(&root.join(name));
        }
        let at = |name: &str| root.join(name).display().to_string();
        assert_eq!(names(&[at("")], None).unwrap(), ["a.parquet", "b.jsonl", "c/d.arrow"]);
        assert_eq!(names(&[at("*.*")], None).unwrap(), ["a.parquet", "b.jsonl"]);
        assert_eq!(names(&[at("*/d.*"), at("b.jsonl")], None).unwrap(), ["d.arrow", "b.jsonl"]);
        assert_eq!(names(&[at("**/*.arrow")], None).unwrap(), ["d.arrow"]);
        assert_eq!(names(&[at("README")], Some(Format::Jsonl)).unwrap(), ["README"]);
        let url = Url::from_file_path(root.join("c")).unwrap().to_string();
        assert_eq!(names(&[url], None).unwrap(), ["d.arrow"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let home = tempfile::tempdir().unwrap();
        touch(&home.path().join("README"));
        let at = |name: &str| home.path().join(name).display().to_string();
        for place in [at("missing.jsonl"), at("*.jsonl"), at(""), "nowhere://x".to_owned()] {
            let error = names(std::slice::from_ref(&place), None).unwrap_err();
            assert!(matches!(&error, Error::NoInput { place: p, .. } if *p == place), "{error}");
        }
        assert!(matches!(names(&[at("README")], None), Err(Error::UnknownFormat { .. })));
    }
}
