//! Where every tensor of an up-scaled model came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use terrace_base::Fingerprint;
use terrace_model::hf::WrittenFile;
use terrace_policy::layer_map::{Initialization, MappedLayer, Selection};

use super::{Upscaling, hash_of};

/// The content of `lineage.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The version of this form.
    pub format: String,
    /// The folder of the base, as it was named.
    pub source: PathBuf,
    /// The hash of the base's `config.json`.
    pub source_config: Option<Fingerprint>,
    /// Which layers were repeated.
    pub selection: Selection,
    /// What the copies begin with.
    pub initialization: Initialization,
    /// The number of layers of the base.
    pub source_layers: usize,
    /// The layers of the output: which of the base's each is.
    pub layers: Vec<MappedLayer>,
    /// The weights of the output.
    pub parameters: u64,
    /// The bytes of its tensors.
    pub bytes: u64,
    /// What was changed of the trained function.
    pub overridden: Overridden,
    /// By name, the tensors of the output.
    pub tensors: BTreeMap<String, TensorLineage>,
    /// By name, the hashes of its weight files.
    pub files: BTreeMap<String, Fingerprint>,
}

/// Settings that differ from the base's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overridden {
    /// The base of the rotary angles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<Changed<f64>>,
    /// What is added to the mean square in a norm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rms_norm_eps: Option<Changed<f64>>,
    /// The longest sequence the model is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_position_embeddings: Option<Changed<u64>>,
}

/// A setting before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed<T> {
    /// The base's.
    pub from: T,
    /// The output's.
    pub to: T,
}

impl<T: PartialEq> Changed<T> {
    fn between(from: T, to: T) -> Option<Self> {
        (from != to).then_some(Self { from, to })
    }
}

/// One tensor of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorLineage {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// The name of the base's tensor.
    pub source: String,
    /// The blake3 hash of the base's bytes.
    pub source_blake3: Fingerprint,
    /// The blake3 hash of the output's bytes: the same, unless the copies were scaled or zeroed.
    pub blake3: Fingerprint,
}

impl TensorLineage {
    pub(super) fn new(
        name: String,
        source: String,
        source_blake3: Fingerprint,
        blake3: Fingerprint,
    ) -> Self {
        Self { name, source, source_blake3, blake3 }
    }
}

impl Lineage {
    pub(super) fn new(of: &Upscaling, tensors: Vec<TensorLineage>, files: &[WrittenFile]) -> Self {
        let (base, deeper) = (of.base(), of.architecture());
        Self {
            format: "terrace-lineage/1".to_owned(),
            source: of.request.source.clone(),
            source_config: hash_of(&of.request.source.join("config.json")),
            selection: of.request.selection.clone(),
            initialization: of.request.initialization,
            source_layers: of.map().source_layers(),
            layers: of.map().layers().to_vec(),
            parameters: deeper.parameter_count(),
            bytes: of.bytes(),
            overridden: Overridden {
                rope_theta: Changed::between(base.rope_theta, deeper.rope_theta),
                rms_norm_eps: Changed::between(base.rms_norm_eps, deeper.rms_norm_eps),
                max_position_embeddings: Changed::between(
                    base.max_position_embeddings,
                    deeper.max_position_embeddings,
                ),
            },
            tensors: tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect(),
            files: files.iter().map(|file| (file.name.clone(), file.hash)).collect(),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it always serialises");
        text.push('\n');
        text
    }
}
