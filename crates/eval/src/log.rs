//! The log of scored items: one JSON object per line, appended as items are scored.

use std::path::Path;

use terrace_base::fs::AppendFile;

use crate::error::{Error, Result};
use crate::record::ItemRecord;

/// The records of a log, in the order of its lines; a last line that is not whole is left out.
///
/// # Errors
///
/// The file cannot be read, or a line in it is no record.
pub fn read_log(path: &Path) -> Result<Vec<ItemRecord>> {
    read(path).map(|(records, _)| records)
}

/// The records, and the bytes of the lines that are whole.
fn read(path: &Path) -> Result<(Vec<ItemRecord>, u64)> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    // An evaluation that was killed may have been writing.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').enumerate();
    let records = lines.filter(|(_, line)| !line.is_empty()).map(|(index, line)| {
        serde_json::from_slice(line).map_err(|error| Error::Log {
            path: path.to_owned(),
            line: index + 1,
            reason: format!("is no record of an item: {error}"),
        })
    });
    Ok((records.collect::<Result<_>>()?, whole as u64))
}

/// A log that is written to.
#[derive(Debug)]
pub(crate) struct Log {
    file: AppendFile,
    path: std::path::PathBuf,
}

impl Log {
    /// Opens a log to go on with it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<ItemRecord>)> {
        let (records, length) = if path.exists() { read(path)? } else { (Vec::new(), 0) };
        let file = AppendFile::open(path, Some(length))
            .map_err(|source| Error::File { path: path.to_owned(), source })?;
        Ok((Self { file, path: path.to_owned() }, records))
    }

    pub(crate) fn append(&mut self, record: &ItemRecord) -> Result<()> {
        let line = serde_json::to_string(record).expect("a record is plain data");
        self.file
            .append_line(&line)
            .map_err(|source| Error::File { path: self.path.clone(), source })
    }
}
