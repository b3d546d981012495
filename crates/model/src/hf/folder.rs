//! A folder whose tensors are read byte by byte: for work on models larger than memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use terrace_base::Dtype;
use terrace_config::Architecture;

use super::load::{check, dtype, map_files, parse, read_architecture};
use super::{COMPANIONS, CONFIG, Quantization};
use crate::Error;

/// A checked model folder, open for reading.
pub struct Folder {
    path: PathBuf,
    architecture: Architecture,
    config: Value,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor's bytes lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    offset: u64,
    bytes: u64,
    dtype: Dtype,
}

impl Folder {
    /// Reads `config.json` and the headers of the weight files, and checks that they agree.
    ///
    /// # Errors
    ///
    /// As [`load`](super::load).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let architecture = read_architecture(path)?;
        Quantization::refuse(path)?;
        let config_path = path.join(CONFIG);
        let text = std::fs::read_to_string(&config_path).map_err(Error::io(&config_path))?;
        let config = serde_json::from_str(&text).expect("its architecture has been read");
        let mapped = map_files(path)?;
        let parsed = parse(&mapped)?;
        let mut views = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        for (file, (content, map)) in parsed.iter().zip(&mapped).enumerate() {
            for (name, view) in content.iter() {
                // The check below refuses it by name, unless nothing needs it.
                let Some(dtype) = dtype(&view) else { continue };
                let data = view.data();
                let offset = (data.as_ptr().addr() - map.bytes.as_ptr().addr()) as u64;
                let place = Place { file, offset, bytes: data.len() as u64, dtype };
                tensors.insert(name.to_owned(), place);
            }
            views.extend(content.iter());
        }
        check(path, &architecture, None, &views)?;
        let open = |path: &PathBuf| File::open(path).map_err(Error::io(path));
        let files = mapped
            .iter()
            .map(|map| Ok((map.path.clone(), open(&map.path)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { path: path.to_owned(), architecture, config, files, tensors })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shape of the model.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The element type of a tensor, and its size in bytes.
    ///
    /// # Panics
    ///
    /// The architecture has no such parameter.
    #[must_use]
    pub fn tensor(&self, name: &str) -> (Dtype, u64) {
        let place = &self.tensors[name];
        (place.dtype, place.bytes)
    }

    /// Reads a part of a tensor's bytes, from `offset` on, without the page cache's help in memory
    /// of this process.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    ///
    /// # Panics
    ///
    /// The part reaches beyond the tensor.
    pub fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let place = &self.tensors[name];
        assert!(offset + buffer.len() as u64 <= place.bytes, "`{name}` is shorter");
        let (path, file) = &self.files[place.file];
        file.read_exact_at(buffer, place.offset + offset).map_err(Error::io(path))
    }

    /// The content of its `config.json` with another shape; all that Terrace does not know stays.
    #[must_use]
    pub fn config_with(&self, architecture: &Architecture) -> Value {
        let mut config = self.config.clone();
        let fields = config.as_object_mut().expect("its architecture has been read");
        let new = architecture.to_hugging_face();
        let old = self.architecture.to_hugging_face();
        for (field, value) in new.as_object().expect("it is an object") {
            // What did not change keeps the spelling of whoever wrote it.
            if old[field] != *value {
                fields.insert(field.clone(), value.clone());
            }
        }
        if let Some(Value::Object(rope)) = fields.get_mut("rope_parameters")
            && rope.contains_key("rope_theta")
        {
            rope.insert("rope_theta".to_owned(), new["rope_theta"].clone());
        }
        config
    }

    /// What lies beside the weights and belongs to the model: tokenizer, generation settings.
    #[must_use]
    pub fn companions(&self) -> Vec<PathBuf> {
        companions(&self.path)
    }
}

/// The files of a folder that belong to a model besides configuration and weights.
#[must_use]
pub fn companions(folder: &Path) -> Vec<PathBuf> {
    let paths = COMPANIONS.iter().map(|name| folder.join(name));
    paths.filter(|path| path.is_file()).collect()
}
