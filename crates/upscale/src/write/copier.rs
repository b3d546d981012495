//! One buffer that goes from the source's files to the output's.

use std::io::Write;
use std::path::Path;

use terrace_base::StreamHasher;
use terrace_model::hf::Folder;

use super::scale::scale;
use super::{Error, Planned, TensorLineage, io_error};

/// The size of the buffer between reading and writing: it stays in a core's cache, and is as large
/// as what the writer passes on without collecting it first.
const BUFFER_BYTES: usize = 1 << 20;

/// Carries bytes, hashing what it reads and what it writes.
pub(super) struct Copier<P> {
    buffer: Vec<u8>,
    done: u64,
    progress: P,
}

impl<P: FnMut(u64)> Copier<P> {
    /// Tells `progress` the bytes written so far.
    pub(super) fn new(progress: P) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], done: 0, progress }
    }

    /// Brings one tensor's bytes to `out`, which is the file `path`.
    pub(super) fn copy(
        &mut self,
        folder: &Folder,
        tensor: &Planned,
        out: &mut dyn Write,
        path: &Path,
    ) -> Result<TensorLineage, Error> {
        let (dtype, bytes) = folder.tensor(&tensor.source);
        let mut read = StreamHasher::new();
        let mut written = tensor.factor.map(|_| StreamHasher::new());
        let mut offset = 0;
        while offset < bytes {
            let count = (bytes - offset).min(self.buffer.len() as u64) as usize;
            let part = &mut self.buffer[..count];
            folder.read(&tensor.source, offset, part)?;
            read.update(part);
            if let (Some(factor), Some(written)) = (tensor.factor, &mut written) {
                scale(part, dtype, factor);
                written.update(part);
            }
            out.write_all(part).map_err(io_error(path))?;
            offset += count as u64;
            self.done += count as u64;
            (self.progress)(self.done);
        }
        let source_hash = read.finish();
        let hash = written.map_or(source_hash, |written| written.finish());
        Ok(TensorLineage::new(tensor.spec.name.clone(), tensor.source.clone(), source_hash, hash))
    }
}
