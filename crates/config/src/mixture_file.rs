//! The file that `terrace mix` takes: the weights that a run is to go on with.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::error::Error;
use crate::load::load_checked;
use crate::mixture::Mixture;

/// Weights of sources, as a stage writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureFile {
    /// The weight of each source.
    pub mixture: Mixture,
    /// The weights at the end of the stage, reached linearly; by default those of `mixture`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture_end: Option<Mixture>,
}

/// Reads a mixture over sources of these names.
///
/// # Errors
///
/// The file cannot be read or is not TOML; a key is unknown, a source is not among `sources`, or
/// the weights are all zero.
pub fn load_mixture(path: &Path, sources: &[&str]) -> Result<MixtureFile, Error> {
    load_checked(path, &[], |file: &MixtureFile, document| {
        check::mixture_file(file, sources, document)
    })
    .map(|loaded| loaded.config)
}
