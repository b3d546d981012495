//! The model section, and a Llama architecture with its parameter counts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use terrace_policy::layer_map::{Initialization, LayerMap, Selection};

use crate::path;

/// What keeps every count of a model within 63 bits.
const EXTENT_LIMIT: u64 = 1 << 24;
const LAYERS_LIMIT: u64 = 1 << 12;

/// The model that is trained: a Hugging Face folder, an architecture, or both.
///
/// With a path the weights come from the folder. With an architecture alone they are random. With
/// both, the architecture is what the folder must hold, and what a plan uses while it is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// The Hugging Face folder of the model that the run begins with.
    #[serde(deserialize_with = "path::deserialize_option")]
    pub path: Option<PathBuf>,
    /// The tokenizer's file; by default `tokenizer.json` in the folder.
    #[serde(deserialize_with = "path::deserialize_option")]
    pub tokenizer: Option<PathBuf>,
    /// The shape of the model that is begun with: that of the folder.
    pub architecture: Option<Architecture>,
    /// Repeat layers of the folder's model before training.
    pub upscale: Option<Upscale>,
}

/// How the model of the folder is made deeper before training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upscale {
    /// Which layers are repeated.
    pub layers: Selection,
    /// What the copies begin with.
    #[serde(default)]
    pub initialization: Initialization,
    /// Which layers are trained.
    #[serde(default)]
    pub train: UpscaleTraining,
}

/// Which layers of an up-scaled model are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpscaleTraining {
    /// The whole model.
    #[default]
    All,
    /// The copies alone; everything else stays as it was (LLaMA Pro, arXiv 2401.02415).
    NewOnly,
    /// The copies alone in the first stage, the whole model in the later ones.
    Staged,
}

impl UpscaleTraining {
    /// Whether only the copies are trained in the stage of this index.
    #[must_use]
    pub fn copies_only(self, stage: usize) -> bool {
        match self {
            Self::All => false,
            Self::NewOnly => true,
            Self::Staged => stage == 0,
        }
    }
}

impl Upscale {
    /// Which layer of the base each layer of the deeper model is.
    ///
    /// # Errors
    ///
    /// The layers make no deeper model of one with as many as `base` has.
    pub fn map(&self, base: &Architecture) -> Result<LayerMap, terrace_policy::layer_map::Error> {
        LayerMap::new(base.num_hidden_layers as usize, &self.layers)
    }

    /// The shape of the deeper model.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn deeper(
        &self,
        base: &Architecture,
    ) -> Result<Architecture, terrace_policy::layer_map::Error> {
        let num_hidden_layers = self.map(base)?.layers().len() as u64;
        Ok(Architecture { num_hidden_layers, ..base.clone() })
    }
}

impl ModelConfig {
    /// Where the tokenizer is: as written, or in the model's folder.
    #[must_use]
    pub fn tokenizer_path(&self) -> Option<PathBuf> {
        let in_folder = || self.path.as_ref().map(|path| path.join("tokenizer.json"));
        self.tokenizer.clone().or_else(in_folder)
    }
}

/// The shape of a Llama model, under Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "ArchitectureAsWritten")]
pub struct Architecture {
    /// The width of the residual stream, `d`.
    pub hidden_size: u64,
    /// The width of the MLP, `f`.
    pub intermediate_size: u64,
    /// The number of layers.
    pub num_hidden_layers: u64,
    /// The number of query heads, `n`.
    pub num_attention_heads: u64,
    /// The number of key and value heads, `k`; divides `n`.
    pub num_key_value_heads: u64,
    /// The width of a head, `h`; even. By default `hidden_size / num_attention_heads`.
    pub head_dim: u64,
    /// The number of tokens the model knows, `v`.
    pub vocab_size: u64,
    /// The longest sequence the model was made for.
    pub max_position_embeddings: u64,
    /// What is added to the mean square in a norm.
    pub rms_norm_eps: f64,
    /// The base of the rotary angles.
    pub rope_theta: f64,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// The standard deviation of randomly initialised matrices.
    pub initializer_range: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "Architecture")]
struct ArchitectureAsWritten {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: u64,
    head_dim: Option<u64>,
    vocab_size: u64,
    max_position_embeddings: u64,
    rms_norm_eps: f64,
    rope_theta: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_initializer_range")]
    initializer_range: f64,
}

impl From<ArchitectureAsWritten> for Architecture {
    fn from(written: ArchitectureAsWritten) -> Self {
        let default_head_dim = written.hidden_size.checked_div(written.num_attention_heads);
        Self {
            hidden_size: written.hidden_size,
            intermediate_size: written.intermediate_size,
            num_hidden_layers: written.num_hidden_layers,
            num_attention_heads: written.num_attention_heads,
            num_key_value_heads: written.num_key_value_heads,
            head_dim: written.head_dim.or(default_head_dim).unwrap_or(0),
            vocab_size: written.vocab_size,
            max_position_embeddings: written.max_position_embeddings,
            rms_norm_eps: written.rms_norm_eps,
            rope_theta: written.rope_theta,
            tie_word_embeddings: written.tie_word_embeddings,
            initializer_range: written.initializer_range,
        }
    }
}

impl Architecture {
    /// The number of weights in one layer: four attention and three MLP matrices, two norms.
    #[must_use]
    pub fn layer_parameters(&self) -> u64 {
        self.layer_matrix_parameters() + 2 * self.hidden_size
    }

    /// The number of weights in the embedding table, which the output head shares if tied.
    #[must_use]
    pub fn embedding_parameters(&self) -> u64 {
        self.vocab_size * self.hidden_size
    }

    /// The number of weights that take part in matrix products: the layers' matrices and the output
    /// head, tied or not; the embedding is looked up, not multiplied.
    #[must_use]
    pub fn matrix_parameters(&self) -> u64 {
        self.num_hidden_layers * self.layer_matrix_parameters() + self.embedding_parameters()
    }

    /// The number of weights of the model.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * self.layer_parameters()
            + tables * self.embedding_parameters()
            + self.hidden_size
    }

    /// The floating-point operations that training on one token takes, forward and backward.
    ///
    /// `6 matrix_parameters + 12 layers (n h) t / 2`: two operations per weight and pass, three
    /// passes; the second term is the attention scores and their product with the values, of which
    /// a causal mask leaves half. Recomputed layers are not counted twice.
    ///
    /// # Source
    ///
    /// Chowdhery et al. 2022, appendix B (arXiv 2204.02311), who count attention in full.
    #[must_use]
    pub fn flops_per_token(&self, sequence_length: usize) -> u64 {
        let attention_width = self.num_attention_heads * self.head_dim;
        6 * self.matrix_parameters()
            + 6 * self.num_hidden_layers * attention_width * sequence_length as u64
    }

    /// The operations that running every layer's forward pass again adds to those of
    /// [`flops_per_token`](Self::flops_per_token).
    #[must_use]
    pub fn recomputed_flops_per_token(&self, sequence_length: usize) -> u64 {
        let attention_width = self.num_attention_heads * self.head_dim;
        let attention = 2 * attention_width * sequence_length as u64;
        self.num_hidden_layers * (2 * self.layer_matrix_parameters() + attention)
    }

    /// The share of a device's peak that training at a speed is: model FLOP/s over the peak ("MFU").
    ///
    /// # Units
    ///
    /// `peak_flops` is that of dense bf16 products with sums in f32, per second, whatever the run
    /// computes in. None where the peak is not known.
    #[must_use]
    pub fn utilisation(
        &self,
        sequence_length: usize,
        tokens_per_second: f64,
        peak_flops: Option<f64>,
    ) -> Option<f64> {
        let flops = self.flops_per_token(sequence_length) as f64 * tokens_per_second;
        peak_flops.map(|peak| flops / peak)
    }

    fn layer_matrix_parameters(&self) -> u64 {
        let hidden = self.hidden_size;
        let query = self.num_attention_heads * self.head_dim;
        let key_value = self.num_key_value_heads * self.head_dim;
        2 * hidden * query + 2 * hidden * key_value + 3 * hidden * self.intermediate_size
    }

    /// What makes the shape impossible, as (field, problem); `None` if nothing does.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        let extents = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((field, value)) =
            extents.into_iter().find(|(_, value)| !(1..=EXTENT_LIMIT).contains(value))
        {
            return Some((field, format!("found {value}, expected 1 to 2^24")));
        }
        if self.num_hidden_layers > LAYERS_LIMIT {
            let problem = format!("found {}, expected at most 2^12", self.num_hidden_layers);
            return Some(("num_hidden_layers", problem));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let problem = format!(
                "{} query heads cannot share {} key and value heads evenly, expected a divisor",
                self.num_attention_heads, self.num_key_value_heads
            );
            return Some(("num_key_value_heads", problem));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            let problem = format!(
                "found a head width of {}, expected an even number: rotary embeddings turn pairs",
                self.head_dim
            );
            return Some(("head_dim", problem));
        }
        if self.head_dim > EXTENT_LIMIT / self.num_attention_heads {
            let problem = format!("found {}, expected all heads within 2^24", self.head_dim);
            return Some(("head_dim", problem));
        }
        let positive = [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            ("initializer_range", self.initializer_range),
        ];
        let (field, value) =
            positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0))?;
        Some((field, format!("found {value}, expected a number above zero")))
    }

    /// The first field in which two shapes differ, with both values; the standard deviation of the
    /// initialisation is not part of a trained model's shape.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<(String, String, String)> {
        let fields = |architecture: &Self| match serde_json::to_value(architecture) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => unreachable!("an architecture is an object"),
        };
        let (ours, theirs) = (fields(self), fields(other));
        ours.into_iter()
            .filter(|(field, _)| field != "initializer_range")
            .find(|(field, value)| theirs[field] != *value)
            .map(|(field, value)| (field.clone(), value.to_string(), theirs[&field].to_string()))
    }
}

pub(crate) fn default_initializer_range() -> f64 {
    0.02
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn yi(layers: u64) -> Architecture {
        Architecture { num_hidden_layers: layers, ..Architecture::named("yi-9b").unwrap() }
    }

    fn upscale(layers: &str) -> Upscale {
        let (initialization, train) = Default::default();
        Upscale { layers: layers.parse().unwrap(), initialization, train }
    }

    // Yi-9B is Yi-6B with layers 12 to 28 repeated; SOLAR-10.7B is a 32-layer model of Mistral's shape
    // without eight layers at either side of the seam.
    #[test]
    fn deeper_models_have_the_published_sizes() {
        let deeper = upscale("12..28").deeper(&yi(32)).unwrap();
        assert_eq!((deeper.num_hidden_layers, deeper.parameter_count()), (48, 8_829_407_232));
        let mistral = Architecture {
            intermediate_size: 14336,
            num_key_value_heads: 8,
            vocab_size: 32000,
            ..yi(32)
        };
        let deeper = upscale("solar 8").deeper(&mistral).unwrap();
        assert_eq!((deeper.num_hidden_layers, deeper.parameter_count()), (48, 10_731_524_096));
        assert!(upscale("12..33").deeper(&yi(32)).is_err());
    }

    #[test]
    fn the_stages_say_what_is_trained() {
        let copies_only = |train: UpscaleTraining| [0, 1, 2].map(|stage| train.copies_only(stage));
        assert_eq!(copies_only(UpscaleTraining::All), [false; 3]);
        assert_eq!(copies_only(UpscaleTraining::NewOnly), [true; 3]);
        assert_eq!(copies_only(UpscaleTraining::Staged), [true, false, false]);
    }

    // Published counts: the Open LLM Leaderboard's 8.829 for Yi-9B, SOLAR's 10.73B.
    #[test]
    fn parameters_are_those_published() {
        assert_eq!(yi(48).parameter_count(), 8_829_407_232);
        assert_eq!(yi(32).parameter_count(), 6_061_035_520);
        let solar = Architecture {
            intermediate_size: 14336,
            num_key_value_heads: 8,
            vocab_size: 32000,
            ..yi(48)
        };
        assert_eq!(solar.parameter_count(), 10_731_524_096);
    }

    #[test]
    fn a_tied_head_is_counted_once_but_multiplied() {
        let tied = Architecture { tie_word_embeddings: true, ..yi(48) };
        assert_eq!(yi(48).parameter_count() - tied.parameter_count(), 64000 * 4096);
        assert_eq!(yi(48).matrix_parameters(), tied.matrix_parameters());
    }

    #[test]
    fn flops_count_causal_attention_by_half() {
        let architecture = yi(48);
        let attention = architecture.flops_per_token(4096) - 6 * architecture.matrix_parameters();
        // Per layer: two products of 2 n h t operations forward, twice that backward, half masked.
        assert_eq!(attention, 48 * (2 * 2 * 4096 * 4096 * 3 / 2));
    }

    #[test]
    fn utilisation_is_of_the_known_peak() {
        let architecture = yi(48);
        // 1e4 tokens of 6 × 8.57e9 matrix weights and 4.83e9 for attention, of 989e12: about 0.569.
        let share = architecture.utilisation(4096, 1e4, Some(989e12)).unwrap();
        let by_hand = (6.0 * 8.567e9 + 4.832e9) * 1e4 / 989e12;
        assert!((share / by_hand - 1.0).abs() < 1e-3, "{share} against {by_hand}");
        assert_eq!(architecture.utilisation(4096, 1e4, None), None);
    }

    #[test]
    fn impossible_shapes_name_their_field() {
        let field = |architecture: Architecture| architecture.problem().map(|(field, _)| field);
        assert_eq!(field(yi(48)), None);
        assert_eq!(field(yi(0)), Some("num_hidden_layers"));
        let uneven = Architecture { num_key_value_heads: 5, ..yi(48) };
        assert_eq!(field(uneven), Some("num_key_value_heads"));
        assert_eq!(field(Architecture { head_dim: 127, ..yi(48) }), Some("head_dim"));
        assert_eq!(field(Architecture { rope_theta: -1.0, ..yi(48) }), Some("rope_theta"));
    }
}
