//! Paths are written relative to the file that writes them, and absolute once loaded.

use std::path::{Component, Path, PathBuf};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// The name under which the deserializer resolves a string as a path.
pub(crate) const PATH_NEWTYPE: &str = "$terrace::path";
/// The same for a place that may also be a URL.
pub(crate) const LOCATION_NEWTYPE: &str = "$terrace::location";

/// Joins `written` to the folder of the file that wrote it, and folds `.` and `..`; `None` if the
/// folder's name is not UTF-8, for a configuration is text.
///
/// The folding is by the letter: behind a symbolic link, `link/..` is where the link stands.
pub(crate) fn resolve_path(base: &Path, written: &str) -> Option<String> {
    normalize(&base.join(written)).to_str().map(str::to_owned)
}

/// Resolves a place that may be a URL, which stays as it is.
pub(crate) fn resolve_location(base: &Path, written: &str) -> Option<String> {
    if written.contains("://") { Some(written.to_owned()) } else { resolve_path(base, written) }
}

pub(crate) fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                let can_pop = matches!(normal.components().next_back(), Some(Component::Normal(_)));
                let at_root = matches!(normal.components().next_back(), Some(Component::RootDir));
                if can_pop {
                    normal.pop();
                } else if !at_root {
                    normal.push("..");
                }
            }
            other => normal.push(other),
        }
    }
    if normal.as_os_str().is_empty() { PathBuf::from(".") } else { normal }
}

/// The path that leads from the folder `from` to `path`, both absolute or both relative.
pub(crate) fn relative_to(path: &Path, from: &Path) -> PathBuf {
    let (path, from) = (normalize(path), normalize(from));
    if path.is_absolute() != from.is_absolute() {
        return path;
    }
    let shared =
        path.components().zip(from.components()).take_while(|(left, right)| left == right).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let relative: PathBuf = up.chain(path.components().skip(shared)).collect();
    if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Place::deserialize(deserializer).map(|place| place.0)
}

pub(crate) fn deserialize_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    Option::<Place>::deserialize(deserializer).map(|place| place.map(|place| place.0))
}

pub(crate) fn deserialize_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<PathBuf>, D::Error> {
    let places = Vec::<Place>::deserialize(deserializer)?;
    Ok(places.into_iter().map(|place| place.0).collect())
}

pub(crate) fn deserialize_locations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let locations = Vec::<Location>::deserialize(deserializer)?;
    Ok(locations.into_iter().map(|location| location.0).collect())
}

struct Place(PathBuf);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_newtype_struct(PATH_NEWTYPE, TextVisitor)?;
        Ok(Self(text.into()))
    }
}

struct Location(String);

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LOCATION_NEWTYPE, TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a path in quotes")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<String, D::Error> {
        inner.deserialize_str(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        if text.is_empty() { Err(E::custom("a path cannot be empty")) } else { Ok(text.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_folded() {
        for (path, expected) in [
            ("/a/configs/../runs/x", "/a/runs/x"),
            ("/../a", "/a"),
            ("../a/./b", "../a/b"),
            ("a/..", "."),
        ] {
            assert_eq!(normalize(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_relative_path_leads_back() {
        for (path, from) in [("/a/b/c", "/a/d"), ("/a", "/a/b/c"), ("/a/b", "/a/b"), ("/x", "/")] {
            let relative = relative_to(Path::new(path), Path::new(from));
            assert!(relative.is_relative());
            assert_eq!(
                resolve_path(Path::new(from), relative.to_str().unwrap()).as_deref(),
                Some(path)
            );
        }
    }

    #[test]
    fn urls_are_left_alone() {
        let base = Path::new("/configs");
        assert_eq!(
            resolve_location(base, "s3://bucket/a/*.parquet").unwrap(),
            "s3://bucket/a/*.parquet"
        );
        assert_eq!(resolve_location(base, "../data/*.parquet").unwrap(), "/data/*.parquet");
    }
}
