//! A deeper checkpoint from a shallower one, by renaming tensors and copying bytes.
//!
//! No model is held: a few pieces of a megabyte go from the source's files to the output's, read by
//! one thread and written by another.

mod lineage;
mod overrides;
mod reader;
mod scale;

use std::path::{Path, PathBuf};

use terrace_base::{Fingerprint, TensorEntry, fs};
use terrace_config::Architecture;
use terrace_model::hf::{Folder, FolderWriter, copy_companions, require_space, require_unoccupied};
use terrace_model::{ParameterSpec, Segment, segment_specs};
use terrace_policy::layer_map::{Initialization, LayerMap, Selection};

pub use self::lineage::{Changed, Lineage, Overridden, TensorLineage};
pub use self::overrides::Overrides;
use self::reader::Pieces;

/// The name of the file that says where every tensor came from.
pub const LINEAGE: &str = "lineage.json";

/// What to make.
#[derive(Clone, Debug)]
pub struct Request {
    /// The Hugging Face folder of the base.
    pub source: PathBuf,
    /// The folder that is made; it must not be there, or be empty.
    pub output: PathBuf,
    /// Which layers are repeated.
    pub selection: Selection,
    /// What the copies begin with.
    pub initialization: Initialization,
    /// What of the trained function is changed besides.
    pub overrides: Overrides,
    /// The size above which a further file is begun.
    pub maximum_shard_bytes: u64,
}

/// Why no deeper checkpoint was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The base cannot be read, or a file of the output cannot be written.
    #[error(transparent)]
    Model(#[from] terrace_model::Error),
    /// The layers that were asked for make no deeper model.
    #[error(transparent)]
    Layers(#[from] terrace_policy::layer_map::Error),
    /// An override is no usable number.
    #[error("{setting}: found {found}, expected {expected}")]
    Override {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file or folder cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What will be made: everything is checked, and nothing has been written.
pub struct Upscaling {
    request: Request,
    folder: Folder,
    map: LayerMap,
    architecture: Architecture,
    tensors: Vec<Planned>,
}

/// One tensor of the output.
struct Planned {
    spec: ParameterSpec,
    source: String,
    /// The factor of its values; `None` copies the bytes.
    factor: Option<f64>,
}

impl Upscaling {
    /// Reads the base's configuration and headers and works out every tensor of the output.
    ///
    /// # Errors
    ///
    /// The base is damaged or not a model that Terrace knows, the layers make no deeper model, an
    /// override is out of range, or the output is there already.
    pub fn plan(request: Request) -> Result<Self, Error> {
        let folder = Folder::open(&request.source)?;
        let base = folder.architecture().clone();
        let map = LayerMap::new(base.num_hidden_layers as usize, &request.selection)?;
        let architecture = request.overrides.apply(&base, map.layers().len())?;
        require_unoccupied(&request.output)?;
        let tensors = planned(&base, &architecture, &map, request.initialization);
        Ok(Self { request, folder, map, architecture, tensors })
    }

    /// Which layer is which.
    #[must_use]
    pub fn map(&self) -> &LayerMap {
        &self.map
    }

    /// The shape of the base.
    #[must_use]
    pub fn base(&self) -> &Architecture {
        self.folder.architecture()
    }

    /// The shape of the deeper model.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The bytes of all tensors of the output.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| self.folder.tensor(&tensor.source).1).sum()
    }

    /// Writes the folder, and `lineage.json` in it; tells `progress` the bytes written so far.
    ///
    /// The folder appears when it is whole and on disk, or not at all.
    ///
    /// # Errors
    ///
    /// The disk is too small, a file of the base cannot be read, or one of the output not written.
    pub fn write(self, progress: impl FnMut(u64)) -> Result<Lineage, Error> {
        let output = &self.request.output;
        require_space(output, self.bytes())?;
        let atomic = fs::AtomicDirectory::create(output).map_err(io_error(output))?;
        let entries = self.tensors.iter().map(|tensor| self.entry(tensor)).collect();
        let maximum = self.request.maximum_shard_bytes;
        let mut writer = FolderWriter::new(atomic.path(), entries, maximum);
        let lineages = self.copy(&mut writer, progress)?;
        let files = writer.finish(&self.folder.config_with(&self.architecture))?;
        copy_companions(&self.folder.companions(), atomic.path())?;
        let lineage = Lineage::new(&self, lineages, &files);
        let path = atomic.path().join(LINEAGE);
        fs::write_atomic(&path, lineage.to_json().as_bytes()).map_err(io_error(&path))?;
        atomic.commit().map_err(io_error(output))?;
        Ok(lineage)
    }

    /// Brings every tensor's bytes from the base to the writer.
    fn copy(
        &self,
        writer: &mut FolderWriter,
        mut progress: impl FnMut(u64),
    ) -> Result<Vec<TensorLineage>, Error> {
        let mut done = 0;
        std::thread::scope(|scope| {
            let (pieces, reader) = Pieces::start(scope, &self.folder, &self.tensors);
            for tensor in &self.tensors {
                let path = writer.next_path();
                let end = done + self.folder.tensor(&tensor.source).1;
                writer.tensor(|out| {
                    while done < end {
                        let write = |piece: &[u8]| out.write_all(piece).map_err(io_error(&path));
                        done += pieces.next(write)? as u64;
                        progress(done);
                    }
                    Ok::<(), Error>(())
                })?;
            }
            Ok(reader.join().expect("the reader does not panic"))
        })
    }

    fn entry(&self, tensor: &Planned) -> TensorEntry {
        TensorEntry {
            name: tensor.spec.name.clone(),
            dtype: self.folder.tensor(&tensor.source).0,
            shape: tensor.spec.shape.clone(),
        }
    }
}

fn planned(
    base: &Architecture,
    deeper: &Architecture,
    map: &LayerMap,
    initialization: Initialization,
) -> Vec<Planned> {
    let segment = |to: Segment, from: Segment, copy: bool| {
        let pairs = segment_specs(deeper, to).into_iter().zip(segment_specs(base, from));
        pairs.map(move |(spec, source)| {
            let changed = copy && spec.writes_residual_stream();
            let factor = match initialization {
                Initialization::ZeroOut if changed => Some(0.0),
                Initialization::Scale(factor) if changed => Some(factor),
                _ => None,
            };
            Planned { spec, source: source.name, factor }
        })
    };
    let layers = map.layers().iter().enumerate();
    segment(Segment::Embedding, Segment::Embedding, false)
        .chain(layers.flat_map(|(index, layer)| {
            segment(Segment::Layer(index), Segment::Layer(layer.source), layer.copy)
        }))
        .chain(segment(Segment::Head, Segment::Head, false))
        .collect()
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// The hash of a whole file, for what is not hashed while it is copied.
fn hash_of(path: &Path) -> Option<Fingerprint> {
    std::fs::read(path).ok().map(|bytes| Fingerprint::of_bytes(&bytes))
}
