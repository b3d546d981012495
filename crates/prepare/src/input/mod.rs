//! From what a configuration names to batches of rows.

mod arrow;
mod batches;
mod content;
mod framing;
mod jsonl;
mod locate;
mod parquet;
mod probe;
mod refusal;
mod remote;
mod unit;

pub(crate) use locate::locate;
pub(crate) use probe::{Probe, probe};
pub(crate) use unit::{Batch, Columns, Queue};

use std::io;
use std::sync::Arc;

use terrace_config::Format;

use crate::{Error, Result};
use content::Content;
use remote::RemoteFile;

/// One file to read.
#[derive(Clone, Debug)]
pub(crate) struct InputFile {
    /// Its name without the folder that was named, for the manifest.
    pub(crate) name: String,
    /// Where it lies, for messages.
    pub(crate) place: String,
    pub(crate) format: Format,
    /// Its size in bytes.
    pub(crate) size: u64,
    location: Location,
}

#[derive(Clone, Debug)]
enum Location {
    Local(std::path::PathBuf),
    Remote(RemoteFile),
}

impl InputFile {
    /// Opens the file for reading by ranges.
    fn open(&self) -> Result<Arc<Content>> {
        let content = match &self.location {
            Location::Local(path) => {
                std::fs::File::open(path).map(|f| Content::local(f, self.size))
            }
            Location::Remote(file) => Ok(Content::remote(file.clone(), self.size)),
        };
        content.map(Arc::new).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> Error {
        match self.location {
            Location::Local(_) => Error::Read { file: self.place.clone(), source },
            Location::Remote(_) => refusal::refused(&self.place, source),
        }
    }

    fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        Error::Damaged { file: self.place.clone(), reason: reason.to_string() }
    }

    /// Sorts what a decoder reports into trouble with the storage and trouble with the content.
    fn failed(&self, error: io::Error) -> Error {
        let from_storage = error.raw_os_error().is_some()
            || error.get_ref().is_some_and(|inner| inner.is::<object_store::Error>());
        if from_storage { self.unreadable(error) } else { self.damaged(error) }
    }
}
