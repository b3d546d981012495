//! Writing safetensors files as a stream, so that no copy of the tensors is ever held.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::fs::AtomicFile;
use crate::{Fingerprint, format_bytes};

/// The element types that Terrace writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Signed integers of eight bits.
    I8,
    /// Bytes.
    U8,
}

impl Dtype {
    /// The size of one element in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// The name that safetensors headers use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I8 => "I8",
            Self::U8 => "U8",
        }
    }
}

/// One tensor of a file to be written.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// The key in the file.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// The extents, outermost first.
    pub shape: Vec<usize>,
}

impl TensorEntry {
    /// The size of the tensor's data in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// Writes one safetensors file: header first, then each tensor's bytes in the announced order.
///
/// # Source
///
/// The format is <https://github.com/huggingface/safetensors>: a little-endian `u64` header length,
/// a JSON header padded with spaces to a multiple of 8, then the data without gaps.
pub struct TensorFileWriter {
    file: AtomicFile,
    hasher: blake3::Hasher,
    expected: u64,
    written: u64,
}

impl TensorFileWriter {
    /// Writes the header for `entries`, with `metadata` as the file's string map.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn create(
        path: &Path,
        entries: &[TensorEntry],
        metadata: &[(&str, &str)],
    ) -> io::Result<Self> {
        let mut header = Map::new();
        if !metadata.is_empty() {
            let pairs = metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
            header.insert("__metadata__".to_owned(), Value::Object(pairs));
        }
        let mut offset = 0;
        for entry in entries {
            let end = offset + entry.bytes();
            let description = json!({
                "dtype": entry.dtype.name(),
                "shape": entry.shape,
                "data_offsets": [offset, end],
            });
            let previous = header.insert(entry.name.clone(), description);
            assert!(previous.is_none(), "tensor {} is announced twice", entry.name);
            offset = end;
        }
        let mut header = Value::Object(header).to_string();
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut writer = Self {
            file: AtomicFile::create(path)?,
            hasher: blake3::Hasher::new(),
            expected: (8 + header.len() + offset) as u64,
            written: 0,
        };
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(header.as_bytes())?;
        Ok(writer)
    }

    /// Finishes the file; gives its length and the hash of all its bytes.
    ///
    /// # Errors
    ///
    /// The bytes could not be brought to disk.
    ///
    /// # Panics
    ///
    /// Fewer or more bytes were written than announced: a bug of the caller.
    pub fn commit(self) -> io::Result<(u64, Fingerprint)> {
        assert_eq!(
            self.written,
            self.expected,
            "the tensors announced take {}",
            format_bytes(self.expected)
        );
        self.file.commit()?;
        Ok((self.written, Fingerprint(*self.hasher.finalize().as_bytes())))
    }
}

impl Write for TensorFileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_laid_out_as_the_format_says() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.safetensors");
        let entry = |name: &str, shape: &[usize]| TensorEntry {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        };
        let entries = [entry("a", &[2]), entry("b", &[1, 1])];
        let mut writer = TensorFileWriter::create(&path, &entries, &[("format", "pt")]).unwrap();
        for value in [1.0f32, 2.0, 3.0] {
            writer.write_all(&value.to_le_bytes()).unwrap();
        }
        let (length, hash) = writer.commit().unwrap();

        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, length);
        assert_eq!(Fingerprint::of_bytes(&bytes), hash);
        let header_length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + header_length]).unwrap();
        assert_eq!(header["b"]["data_offsets"], json!([8, 12]));
        assert_eq!(&bytes[8 + header_length + 8..], 3.0f32.to_le_bytes());
    }
}
