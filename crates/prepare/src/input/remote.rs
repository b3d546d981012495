//! Files in an object store, read from ordinary threads.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;
use url::Url;

use crate::{Error, Result};

/// Opens object stores by URL, each once.
pub(super) struct Stores<'a> {
    options: &'a [(String, String)],
    runtime: Option<Arc<Runtime>>,
}

/// A store and the runtime that its futures run on.
#[derive(Clone)]
pub(super) struct Store {
    store: Arc<dyn ObjectStore>,
    runtime: Arc<Runtime>,
}

/// A file in a store.
#[derive(Clone)]
pub(super) struct RemoteFile {
    store: Store,
    path: Path,
}

/// A file that a store lists.
pub(super) struct Listed {
    pub(super) path: Path,
    pub(super) size: u64,
}

impl<'a> Stores<'a> {
    pub(super) fn new(options: &'a [(String, String)]) -> Self {
        Self { options, runtime: None }
    }

    /// The store of a URL, and the path within it.
    pub(super) fn open(&mut self, place: &str) -> Result<(Store, Path)> {
        let failed = |reason: String| Error::NoInput { place: place.to_owned(), reason };
        let url = Url::parse(place).map_err(|error| failed(error.to_string()))?;
        let given = self.options.iter().map(|(key, value)| (key.to_lowercase(), value.clone()));
        // The stores refuse unencrypted connections, but who writes http:// has asked for one.
        let plain = (url.scheme() == "http").then(|| ("allow_http".to_owned(), "true".to_owned()));
        let (store, path) = object_store::parse_url_opts(&url, given.chain(plain))
            .map_err(|error| failed(error.to_string()))?;
        let runtime = match &self.runtime {
            Some(runtime) => Arc::clone(runtime),
            None => {
                let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = Arc::new(built.map_err(|error| failed(error.to_string()))?);
                Arc::clone(self.runtime.insert(runtime))
            }
        };
        Ok((Store { store: store.into(), runtime }, path))
    }
}

impl Store {
    pub(super) fn file(&self, path: Path) -> RemoteFile {
        RemoteFile { store: self.clone(), path }
    }

    /// Everything under a prefix, sorted by path.
    pub(super) fn list(&self, prefix: &Path) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        let mut folders = vec![prefix.clone()];
        while let Some(folder) = folders.pop() {
            let found = self.runtime.block_on(self.store.list_with_delimiter(Some(&folder)))?;
            folders.extend(found.common_prefixes);
            files.extend(
                found.objects.into_iter().map(|o| Listed { path: o.location, size: o.size }),
            );
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

impl RemoteFile {
    /// The file's size.
    pub(super) fn size(&self) -> io::Result<u64> {
        let Store { store, runtime } = &self.store;
        Ok(runtime.block_on(store.head(&self.path))?.size)
    }

    pub(super) fn range(&self, range: Range<u64>) -> io::Result<Bytes> {
        let Store { store, runtime } = &self.store;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        Ok(runtime.block_on(store.get_range(&self.path, range))?)
    }
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteFile({})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_listed_and_read_by_ranges() {
        let home = tempfile::tempdir().unwrap();
        for name in ["b/x.jsonl", "a.jsonl", "b/c/y.jsonl"] {
            let path = home.path().join(name);
            terrace_base::fs::create_dir_all(path.parent().unwrap()).unwrap();
            terrace_base::fs::write_atomic(&path, name.as_bytes()).unwrap();
        }
        let url = Url::from_directory_path(home.path()).unwrap();
        let options = [("UNKNOWN_VARIABLE".to_owned(), "1".to_owned())];
        let (store, prefix) = Stores::new(&options).open(url.as_str()).unwrap();
        let listed = store.list(&prefix).unwrap();
        let names: Vec<_> = listed.iter().map(|file| file.path.filename().unwrap()).collect();
        assert_eq!(names, ["a.jsonl", "y.jsonl", "x.jsonl"]);
        let file = store.file(listed[0].path.clone());
        assert_eq!((file.size().unwrap(), listed[0].size), (7, 7));
        assert_eq!(file.range(2..5).unwrap(), "jso");
        assert!(file.range(3..3).unwrap().is_empty());
        let missing = store.file(prefix.clone().join("missing"));
        assert_eq!(missing.size().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
