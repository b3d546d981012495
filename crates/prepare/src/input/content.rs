//! The bytes of a file, local or remote, read by ranges.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::Bytes;

use super::remote::RemoteFile;

/// What is read at once, at least: a request to a store costs as much time as some megabytes.
const LOCAL_BLOCK: u64 = 1 << 20;
const REMOTE_BLOCK: u64 = 8 << 20;

/// A file that is open; reading forward is buffered.
pub(super) struct Content {
    storage: Storage,
    size: u64,
    /// The block that was read last, and where it begins.
    block: Mutex<(u64, Bytes)>,
}

enum Storage {
    Local(File),
    Remote(RemoteFile),
}

impl Content {
    pub(super) fn local(file: File, size: u64) -> Self {
        Self { storage: Storage::Local(file), size, block: Mutex::default() }
    }

    pub(super) fn remote(file: RemoteFile, size: u64) -> Self {
        Self { storage: Storage::Remote(file), size, block: Mutex::default() }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Exactly `length` bytes from `offset`.
    pub(super) fn range(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let end = offset.checked_add(length).filter(|&end| end <= self.size).ok_or_else(|| {
            let message = format!("it ends at byte {}, before {offset} + {length}", self.size);
            io::Error::new(io::ErrorKind::UnexpectedEof, message)
        })?;
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let (begin, bytes) = &*block;
        if offset < *begin || end > begin + bytes.len() as u64 {
            let minimum = match self.storage {
                Storage::Local(_) => LOCAL_BLOCK,
                Storage::Remote(_) => REMOTE_BLOCK,
            };
            let length = length.max(minimum).min(self.size - offset);
            *block = (offset, self.fetch(offset, length)?);
        }
        let (begin, bytes) = &*block;
        let from = usize::try_from(offset - begin).expect("within the block");
        Ok(bytes.slice(from..from + usize::try_from(length).expect("within the block")))
    }

    fn fetch(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        match &self.storage {
            Storage::Remote(file) => file.range(offset..offset + length),
            Storage::Local(file) => {
                let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes.into())
            }
        }
    }
}

/// A content as the parquet reader wants it.
pub(super) struct SharedContent(pub(super) Arc<Content>);

impl Length for SharedContent {
    fn len(&self) -> u64 {
        self.0.size
    }
}

impl ChunkReader for SharedContent {
    type T = ContentReader;

    fn get_read(&self, start: u64) -> Result<ContentReader, ParquetError> {
        Ok(ContentReader { content: Arc::clone(&self.0), position: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.0.range(start, length as u64)?)
    }
}

/// Reads a content from a position on.
pub(super) struct ContentReader {
    content: Arc<Content>,
    position: u64,
}

impl ContentReader {
    pub(super) fn new(content: Arc<Content>) -> Self {
        Self { content, position: 0 }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.size.saturating_sub(self.position);
        let length = left.min(LOCAL_BLOCK).min(buffer.len() as u64);
        let bytes = self.content.range(self.position, length)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for ContentReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => self.content.size.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_reads_agree_with_the_file() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let content = Arc::new(Content::local(file, bytes.len() as u64));
        for (offset, length) in [(0, 10), (5, 2_000_000), (2_999_990, 10), (7, 0), (3_000_000, 0)] {
            let range = content.range(offset as u64, length as u64).unwrap();
            assert_eq!(range, bytes[offset..offset + length]);
        }
        assert!(content.range(2_999_999, 2).is_err());
        assert!(content.range(u64::MAX, 2).is_err());
        let mut reader = ContentReader::new(content);
        reader.seek(SeekFrom::End(-5)).unwrap();
        reader.seek(SeekFrom::Current(-2_000_000)).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[999_995..]);
    }
}
