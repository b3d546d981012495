//! Looking at a folder without loading its weights.

use std::collections::BTreeMap;
use std::path::Path;

use terrace_config::Architecture;

use super::Quantization;
use super::load::{check, map_files, parse, read_architecture};
use crate::Error;

/// What a model folder holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The shape that `config.json` describes and that the tensors have.
    pub architecture: Architecture,
    /// How its weights were rounded to integers, if they were.
    pub quantization: Option<Quantization>,
    /// The number of tensors in the files.
    pub tensors: usize,
    /// The element types that occur, by name.
    pub dtypes: Vec<String>,
    /// The files that hold weights, by name.
    pub files: Vec<WeightFile>,
}

/// One file of weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// Reads the shape of a model from `config.json` alone.
///
/// # Errors
///
/// It cannot be read, or is not of an architecture that Terrace trains.
pub fn architecture(folder: &Path) -> Result<Architecture, Error> {
    read_architecture(folder)
}

/// Reads `config.json` and the headers of the weight files, and checks that the tensors are those
/// that the configuration calls for.
///
/// # Errors
///
/// As [`load_frozen`](super::load_frozen): what can be described can be loaded.
pub fn describe(folder: &Path) -> Result<Summary, Error> {
    let architecture = read_architecture(folder)?;
    let quantization = Quantization::read(folder)?;
    let files = map_files(folder)?;
    let mut tensors = BTreeMap::new();
    let parsed = parse(&files)?;
    for file in &parsed {
        tensors.extend(file.iter());
    }
    check(folder, &architecture, quantization.as_ref(), &tensors)?;
    let mut dtypes: Vec<String> =
        tensors.values().map(|tensor| format!("{:?}", tensor.dtype())).collect();
    dtypes.sort();
    dtypes.dedup();
    let files = files.iter().map(|file| WeightFile {
        name: file.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        bytes: file.bytes.len() as u64,
    });
    let (tensors, files) = (tensors.len(), files.collect());
    Ok(Summary { architecture, quantization, tensors, dtypes, files })
}
