//! Rounding a model folder tensor by tensor, some rows at a time.
//!
//! No model is held: of the largest weight a few megabytes are in memory, and its scales.

use std::path::{Path, PathBuf};

use terrace_base::{Dtype, TensorEntry, fs};
use terrace_kernels::int8_quantize;
use terrace_model::hf::{
    Folder, FolderWriter, Quantization, copy_companions, require_space, require_unoccupied,
    scale_name, scale_shape, widen,
};
use terrace_model::{ParameterSpec, parameter_specs};

use crate::Error;

/// The weights that are in memory at one time.
const CHUNK_WEIGHTS: usize = 1 << 20;

/// A folder that will be made: everything but the weights themselves is checked, and nothing has
/// been written.
pub struct Quantizing {
    folder: Folder,
    output: PathBuf,
    scheme: Quantization,
    parameters: Vec<ParameterSpec>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// The bytes of the model's tensors before.
    pub bytes_before: u64,
    /// The bytes of all tensors after, scales among them.
    pub bytes_after: u64,
    /// The weights that are integers now.
    pub integers: u64,
    /// The weights that are as they were.
    pub kept: u64,
}

impl Quantizing {
    /// Reads the model's configuration and headers.
    ///
    /// # Errors
    ///
    /// The model is damaged, of integers already, or not one that Terrace knows; its output
    /// projection is asked for and is its embedding; or the output is there already.
    pub fn plan(model: &Path, output: &Path, scheme: Quantization) -> Result<Self, Error> {
        let folder = Folder::open(model)?;
        if scheme.lm_head && folder.architecture().tie_word_embeddings {
            return Err(Error::Tied { path: model.to_owned() });
        }
        require_unoccupied(output)?;
        let parameters = parameter_specs(folder.architecture());
        Ok(Self { folder, output: output.to_owned(), scheme, parameters })
    }

    /// The sizes before and after.
    #[must_use]
    pub fn sizes(&self) -> Written {
        let mut sizes = Written { bytes_before: 0, bytes_after: 0, integers: 0, kept: 0 };
        for spec in &self.parameters {
            sizes.bytes_before += self.folder.tensor(&spec.name).1;
            let after = self.entries(spec).iter().map(TensorEntry::bytes).sum::<usize>();
            sizes.bytes_after += after as u64;
            let count =
                if self.scheme.covers(spec) { &mut sizes.integers } else { &mut sizes.kept };
            *count += spec.elements() as u64;
        }
        sizes
    }

    /// Writes the folder; tells `progress` the bytes of the model that have been read so far.
    ///
    /// The folder appears when it is whole and on disk, or not at all.
    ///
    /// # Errors
    ///
    /// The disk is too small, a file cannot be read or written, or a weight is not finite or too
    /// large for its scale; the error names its place.
    pub fn write(
        self,
        maximum_shard_bytes: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<Written, Error> {
        require_space(&self.output, self.sizes().bytes_after)?;
        let atomic = fs::AtomicDirectory::create(&self.output).map_err(failed(&self.output))?;
        let entries = self.parameters.iter().flat_map(|spec| self.entries(spec)).collect();
        let mut writer = FolderWriter::new(atomic.path(), entries, maximum_shard_bytes);
        let mut done = 0;
        for spec in &self.parameters {
            let advance = |bytes: u64| {
                done += bytes;
                progress(done);
            };
            if self.scheme.covers(spec) {
                self.round(spec, &mut writer, advance)?;
            } else {
                self.copy(spec, &mut writer, advance)?;
            }
        }
        let mut config = self.folder.config_with(self.folder.architecture());
        self.scheme.describe(&mut config);
        writer.finish(&config)?;
        copy_companions(&self.folder.companions(), atomic.path())?;
        let sizes = self.sizes();
        atomic.commit().map_err(failed(&self.output))?;
        Ok(sizes)
    }

    /// The tensors that a parameter becomes.
    fn entries(&self, spec: &ParameterSpec) -> Vec<TensorEntry> {
        let entry = |name: &str, dtype, shape: &[usize]| TensorEntry {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
        };
        if self.scheme.covers(spec) {
            let scales = entry(&scale_name(&spec.name), Dtype::F16, &scale_shape(spec));
            return vec![entry(&spec.name, Dtype::I8, &spec.shape), scales];
        }
        vec![entry(&spec.name, self.folder.tensor(&spec.name).0, &spec.shape)]
    }

    /// Writes a weight as integers, then the scales.
    fn round(
        &self,
        spec: &ParameterSpec,
        writer: &mut FolderWriter,
        mut advance: impl FnMut(u64),
    ) -> Result<(), Error> {
        let [rows, inputs] = spec.matrix_shape();
        let chunk = (CHUNK_WEIGHTS / inputs).clamp(1, rows);
        let mut scales = Vec::new();
        let path = writer.next_path();
        writer.tensor(|out| {
            for first in (0..rows).step_by(chunk) {
                let count = chunk.min(rows - first);
                let (bytes, weights) = self.rows(spec, first, count)?;
                let (values, factors) = int8_quantize(&weights, inputs)
                    .map_err(|error| self.refused(spec, error.below(first)))?;
                out.write_all(bytemuck::cast_slice(&values)).map_err(failed(&path))?;
                scales.extend(factors);
                advance(bytes);
            }
            Ok::<(), Error>(())
        })?;
        let path = writer.next_path();
        let bytes: Vec<u8> = scales.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        writer.tensor(|out| out.write_all(&bytes).map_err(failed(&path)))
    }

    /// Some rows of a weight in f32, and the bytes that they take in the file.
    fn rows(
        &self,
        spec: &ParameterSpec,
        first: usize,
        count: usize,
    ) -> Result<(u64, Vec<f32>), Error> {
        let (dtype, _) = self.folder.tensor(&spec.name);
        let row_bytes = spec.matrix_shape()[1] * dtype.bytes();
        let mut bytes = vec![0; count * row_bytes];
        self.folder.read(&spec.name, (first * row_bytes) as u64, &mut bytes)?;
        Ok((bytes.len() as u64, widen(&bytes, dtype)))
    }

    /// Writes a tensor as it is.
    fn copy(
        &self,
        spec: &ParameterSpec,
        writer: &mut FolderWriter,
        mut advance: impl FnMut(u64),
    ) -> Result<(), Error> {
        let (dtype, bytes) = self.folder.tensor(&spec.name);
        let piece = (CHUNK_WEIGHTS * dtype.bytes()) as u64;
        let path = writer.next_path();
        writer.tensor(|out| {
            let mut offset = 0;
            while offset < bytes {
                let mut buffer = vec![0; piece.min(bytes - offset) as usize];
                self.folder.read(&spec.name, offset, &mut buffer)?;
                out.write_all(&buffer).map_err(failed(&path))?;
                offset += buffer.len() as u64;
                advance(buffer.len() as u64);
            }
            Ok(())
        })
    }

    fn refused(&self, spec: &ParameterSpec, source: terrace_kernels::Int8Error) -> Error {
        let (path, name) = (self.folder.path().to_owned(), spec.name.clone());
        terrace_model::Error::Int8 { path, name, source }.into()
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}
