//! The tensors of one model segment, read without copying.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, SafeTensors};

use crate::{Damage, Error};

/// One segment's file, mapped into memory.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

/// A tensor as it lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorView<'a> {
    /// The extents, outermost first.
    pub shape: &'a [usize],
    /// The elements, the last extent running fastest; borrowed from the file where it is aligned.
    pub values: Cow<'a, [f32]>,
}

impl Segment {
    /// Maps a segment's file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, Damage> {
        let file = File::open(path).map_err(Damage::from_io)?;
        let map = map(&file).map_err(Damage::from_io)?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|error| Damage::Malformed(error.to_string()))?;
        // The header is preceded by its length, a `u64`.
        let data_start = header + size_of::<u64>();
        Ok(Self { path: path.to_owned(), map, metadata, data_start })
    }

    /// The keys in the order in which the tensors lie in the file.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The tensor with the key `name`.
    ///
    /// # Errors
    ///
    /// There is no such tensor, or its elements are not f32.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let info =
            self.metadata.info(name).ok_or_else(|| self.error(name, "is missing".to_owned()))?;
        if info.dtype != Dtype::F32 {
            return Err(self.error(name, format!("has type {}, expected F32", info.dtype)));
        }
        let (start, end) = info.data_offsets;
        Ok(TensorView {
            shape: &info.shape,
            values: floats(&self.map[self.data_start + start..self.data_start + end]),
        })
    }

    /// The bytes and the extents of the tensor with the key `name`, little-endian.
    ///
    /// # Errors
    ///
    /// There is no such tensor, or its elements are of another type.
    pub fn bytes(
        &self,
        name: &str,
        dtype: terrace_base::Dtype,
    ) -> Result<(&[u8], &[usize]), Error> {
        let info =
            self.metadata.info(name).ok_or_else(|| self.error(name, "is missing".to_owned()))?;
        if info.dtype.to_string() != dtype.name() {
            let reason = format!("has type {}, expected {}", info.dtype, dtype.name());
            return Err(self.error(name, reason));
        }
        let (start, end) = info.data_offsets;
        Ok((&self.map[self.data_start + start..self.data_start + end], &info.shape))
    }

    fn error(&self, name: &str, reason: String) -> Error {
        Error::Tensor { path: self.path.clone(), name: name.to_owned(), reason }
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe whatever it holds")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: undefined only if the file changes while it is mapped. Terrace never writes into a
    // file of a checkpoint once it has its name: it replaces and removes whole folders, and an
    // unlinked file stays as it is for those who have it mapped.
    unsafe { Mmap::map(file) }
}

/// Little-endian bytes as floats, bit for bit.
fn floats(bytes: &[u8]) -> Cow<'_, [f32]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(values) if cfg!(target_endian = "little") => Cow::Borrowed(values),
        _ => {
            let (words, _) = bytes.as_chunks();
            Cow::Owned(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_floats_are_copied_bit_for_bit() {
        let values = [f32::from_bits(0x7fa0_0001), -0.0, 1.5];
        let mut bytes = [0u8; 16];
        let offset = (4 - bytes.as_ptr().addr() % 4) % 4 + 1;
        let place = offset % 4..offset % 4 + 12;
        for (slot, value) in bytes[place.clone()].chunks_mut(4).zip(values) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        let read = floats(&bytes[place]);
        assert!(matches!(read, Cow::Owned(_)));
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(&values));
    }
}
