//! The parameters of a model in their one order, with names, shapes and roles.

use terrace_config::Architecture;

use crate::Segment;

/// How a parameter starts when a model is made from nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// All ones: norms.
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
}

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// The Hugging Face key.
    pub name: String,
    /// The extents as Hugging Face stores them; one extent for a norm.
    pub shape: Vec<usize>,
    /// Whether weight decay applies: to matrices, not to norms nor to the embedding.
    pub decayed: bool,
    /// How it starts.
    pub initializer: Initializer,
}

impl ParameterSpec {
    /// The extents as the model holds them: always two.
    #[must_use]
    pub fn matrix_shape(&self) -> [usize; 2] {
        match self.shape[..] {
            [d] => [1, d],
            [rows, columns] => [rows, columns],
            _ => unreachable!("parameters have one or two extents"),
        }
    }

    /// Whether it is a matrix and no norm.
    #[must_use]
    pub fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }

    /// Whether it is one of the two projections by which a layer writes to the residual stream.
    #[must_use]
    pub fn writes_residual_stream(&self) -> bool {
        self.name.ends_with(".o_proj.weight") || self.name.ends_with(".down_proj.weight")
    }

    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All parameters, from the embedding up.
#[must_use]
pub fn parameter_specs(architecture: &Architecture) -> Vec<ParameterSpec> {
    Segment::all(architecture.num_hidden_layers as usize)
        .flat_map(|segment| segment_specs(architecture, segment))
        .collect()
}

/// The parameters of one segment, in the order in which the model holds them.
///
/// With tied embeddings the head owns only the final norm: the projection is the embedding.
#[must_use]
pub fn segment_specs(architecture: &Architecture, segment: Segment) -> Vec<ParameterSpec> {
    let a = architecture;
    let [hidden, mlp, vocab, head] =
        [a.hidden_size, a.intermediate_size, a.vocab_size, a.head_dim].map(|x| x as usize);
    let queries = a.num_attention_heads as usize * head;
    let keys = a.num_key_value_heads as usize * head;
    let normal = Initializer::Normal(a.initializer_range);
    let matrix = |name: String, rows, columns| ParameterSpec {
        name,
        shape: vec![rows, columns],
        decayed: true,
        initializer: normal,
    };
    let norm = |name: String| ParameterSpec {
        name,
        shape: vec![hidden],
        decayed: false,
        initializer: Initializer::Ones,
    };
    match segment {
        Segment::Embedding => vec![ParameterSpec {
            decayed: false,
            ..matrix("model.embed_tokens.weight".to_owned(), vocab, hidden)
        }],
        Segment::Layer(index) => {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            vec![
                norm(name("input_layernorm")),
                matrix(name("self_attn.q_proj"), queries, hidden),
                matrix(name("self_attn.k_proj"), keys, hidden),
                matrix(name("self_attn.v_proj"), keys, hidden),
                matrix(name("self_attn.o_proj"), hidden, queries),
                norm(name("post_attention_layernorm")),
                matrix(name("mlp.gate_proj"), mlp, hidden),
                matrix(name("mlp.up_proj"), mlp, hidden),
                matrix(name("mlp.down_proj"), hidden, mlp),
            ]
        }
        Segment::Head => {
            let mut specs = vec![norm("model.norm.weight".to_owned())];
            if !a.tie_word_embeddings {
                specs.push(matrix("lm_head.weight".to_owned(), vocab, hidden));
            }
            specs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn architecture(tied: bool) -> Architecture {
        let json = format!(
            r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
            "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": {tied}}}"#
        );
        Architecture::from_hugging_face(&json).unwrap()
    }

    #[test]
    fn the_specs_count_what_the_plan_counts() {
        for tied in [false, true] {
            let architecture = architecture(tied);
            let total: usize =
                parameter_specs(&architecture).iter().map(ParameterSpec::elements).sum();
            assert_eq!(total as u64, architecture.parameter_count());
        }
    }

    #[test]
    fn only_matrices_decay() {
        let kept: Vec<String> = parameter_specs(&architecture(false))
            .into_iter()
            .filter(|spec| !spec.decayed)
            .map(|spec| spec.name)
            .collect();
        let mut expected = vec!["model.embed_tokens.weight".to_owned()];
        for layer in 0..3 {
            expected.push(format!("model.layers.{layer}.input_layernorm.weight"));
            expected.push(format!("model.layers.{layer}.post_attention_layernorm.weight"));
        }
        expected.push("model.norm.weight".to_owned());
        assert_eq!(kept, expected);
    }
}
