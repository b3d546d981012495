//! Published shapes by their names.

use crate::Architecture;

impl Architecture {
    /// The shape of a published model: `yi-6b` or `yi-9b`.
    ///
    /// # Source
    ///
    /// The `config.json` of 01-ai/Yi-6B and 01-ai/Yi-9B.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let num_hidden_layers = match name {
            "yi-6b" => 32,
            "yi-9b" => 48,
            _ => return None,
        };
        Some(Self {
            hidden_size: 4096,
            intermediate_size: 11008,
            num_hidden_layers,
            num_attention_heads: 32,
            num_key_value_heads: 4,
            head_dim: 128,
            vocab_size: 64000,
            max_position_embeddings: 4096,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings: false,
            initializer_range: 0.02,
        })
    }
}
