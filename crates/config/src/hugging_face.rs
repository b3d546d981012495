//! Reading and writing the shape in a Hugging Face `config.json`.

use serde_json::{Map, Value, json};

use crate::model::{Architecture, default_initializer_range};

/// Why a `config.json` does not describe a model that Terrace can train.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// The text is not a JSON object.
    #[error("expected a JSON object, found {0}")]
    NotAnObject(String),
    /// A field is absent.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A field has a value of the wrong type.
    #[error("`{field}`: found {found}, expected {expected}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The model is of a kind that Terrace does not train.
    #[error("`{field}`: found {found}, expected {expected}")]
    Unsupported {
        /// The field that tells.
        field: &'static str,
        /// Its value.
        found: String,
        /// What is supported.
        expected: &'static str,
    },
    /// The numbers contradict each other.
    #[error("`{field}`: {problem}")]
    Impossible {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Architecture {
    /// Reads the shape from the text of a `config.json`.
    ///
    /// # Errors
    ///
    /// The model is not a plain Llama (another type, biases, scaled rotary embeddings, another
    /// activation), a field is missing, or the numbers contradict each other.
    pub fn from_hugging_face(json: &str) -> Result<Self, ArchitectureError> {
        let fields: Value = serde_json::from_str(json)
            .map_err(|error| ArchitectureError::NotAnObject(error.to_string()))?;
        let Value::Object(fields) = fields else {
            return Err(ArchitectureError::NotAnObject(fields.to_string()));
        };
        refuse_other_models(&fields)?;
        let hidden_size = extent(&fields, "hidden_size")?;
        let num_attention_heads = extent(&fields, "num_attention_heads")?;
        let optional = |field| match present(&fields, field) {
            Some(_) => extent(&fields, field).map(Some),
            None => Ok(None),
        };
        let default_head_dim = hidden_size.checked_div(num_attention_heads).unwrap_or(0);
        let architecture = Self {
            hidden_size,
            intermediate_size: extent(&fields, "intermediate_size")?,
            num_hidden_layers: extent(&fields, "num_hidden_layers")?,
            num_attention_heads,
            // PARITY: transformers' LlamaConfig has these defaults.
            num_key_value_heads: optional("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: optional("head_dim")?.unwrap_or(default_head_dim),
            vocab_size: extent(&fields, "vocab_size")?,
            max_position_embeddings: optional("max_position_embeddings")?.unwrap_or(2048),
            rms_norm_eps: number(&fields, "rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: rope_theta(&fields)?,
            tie_word_embeddings: boolean(&fields, "tie_word_embeddings")?,
            initializer_range: number(&fields, "initializer_range")?
                .unwrap_or_else(default_initializer_range),
        };
        match architecture.problem() {
            Some((field, problem)) => Err(ArchitectureError::Impossible { field, problem }),
            None => Ok(architecture),
        }
    }

    /// The content of a `config.json` with this shape: an object that the caller may extend.
    #[must_use]
    pub fn to_hugging_face(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": null,
            "tie_word_embeddings": self.tie_word_embeddings,
            "initializer_range": self.initializer_range,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "mlp_bias": false,
            "use_cache": true,
        })
    }
}

fn refuse_other_models(fields: &Map<String, Value>) -> Result<(), ArchitectureError> {
    let refuse = |field, found: &Value, expected| {
        Err(ArchitectureError::Unsupported { field, found: found.to_string(), expected })
    };
    let kind = present(fields, "model_type");
    let classes = present(fields, "architectures");
    if kind.is_none() && classes.is_none() {
        return Err(ArchitectureError::Missing("model_type"));
    }
    if let Some(kind) = kind.filter(|kind| *kind != "llama") {
        return refuse("model_type", kind, "\"llama\"");
    }
    if let Some(classes) = classes {
        let is_llama = |class: &Value| class == "LlamaForCausalLM" || class == "LlamaModel";
        if !classes.as_array().is_some_and(|classes| classes.iter().any(is_llama)) {
            return refuse("architectures", classes, "[\"LlamaForCausalLM\"]");
        }
    }
    for field in ["attention_bias", "mlp_bias"] {
        if boolean(fields, field)? {
            return refuse(field, &Value::Bool(true), "false: matrices here have no bias");
        }
    }
    if let Some(activation) = present(fields, "hidden_act").filter(|a| *a != "silu") {
        return refuse("hidden_act", activation, "\"silu\"");
    }
    if let Some(scaling) = present(fields, "rope_scaling") {
        // Newer writers repeat the plain rotary embedding under the old name.
        if !is_plain_rope(scaling) {
            return refuse("rope_scaling", scaling, "null: scaled positions are not supported");
        }
    }
    match present(fields, "rope_parameters") {
        Some(parameters) if !is_plain_rope(parameters) => {
            refuse("rope_parameters", parameters, "rope_type \"default\"")
        }
        _ => Ok(()),
    }
}

fn is_plain_rope(parameters: &Value) -> bool {
    let kind = parameters.get("rope_type").or_else(|| parameters.get("type"));
    parameters.is_object() && kind.is_none_or(|kind| kind == "default")
}

/// The base of the angles: at the top level, or in the newer `rope_parameters`.
fn rope_theta(fields: &Map<String, Value>) -> Result<f64, ArchitectureError> {
    let newer = match present(fields, "rope_parameters") {
        Some(Value::Object(parameters)) => number(parameters, "rope_theta")?,
        _ => None,
    };
    match newer {
        Some(theta) => Ok(theta),
        None => Ok(number(fields, "rope_theta")?.unwrap_or(10_000.0)),
    }
}

fn present<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    fields.get(field).filter(|value| !value.is_null())
}

fn extent(fields: &Map<String, Value>, field: &'static str) -> Result<u64, ArchitectureError> {
    let value = present(fields, field).ok_or(ArchitectureError::Missing(field))?;
    value.as_u64().ok_or_else(|| ArchitectureError::WrongType {
        field,
        found: value.to_string(),
        expected: "an integer",
    })
}

fn number(
    fields: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<f64>, ArchitectureError> {
    let Some(value) = present(fields, field) else {
        return Ok(None);
    };
    let found = || value.to_string();
    value.as_f64().map(Some).ok_or_else(|| ArchitectureError::WrongType {
        field,
        found: found(),
        expected: "a number",
    })
}

fn boolean(fields: &Map<String, Value>, field: &'static str) -> Result<bool, ArchitectureError> {
    let Some(value) = present(fields, field) else {
        return Ok(false);
    };
    value.as_bool().ok_or_else(|| ArchitectureError::WrongType {
        field,
        found: value.to_string(),
        expected: "true or false",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::yi;

    fn with(field: &str, value: Value) -> Result<Architecture, ArchitectureError> {
        let mut fields = yi(48).to_hugging_face();
        fields[field] = value;
        Architecture::from_hugging_face(&fields.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let odd = Architecture { rope_theta: 5e6, rms_norm_eps: 1e-5, head_dim: 64, ..yi(32) };
        for architecture in [yi(48), odd] {
            let json = architecture.to_hugging_face().to_string();
            assert_eq!(Architecture::from_hugging_face(&json), Ok(architecture));
        }
    }

    #[test]
    fn both_spellings_of_the_rotary_base_are_read() {
        let parameters = json!({"rope_theta": 5e6, "rope_type": "default"});
        assert_eq!(with("rope_parameters", parameters).unwrap().rope_theta, 5e6);
        assert_eq!(with("rope_theta", json!(1e6)).unwrap().rope_theta, 1e6);
        assert_eq!(with("rope_theta", Value::Null).unwrap().rope_theta, 1e4);
    }

    #[test]
    fn absent_fields_have_the_library_s_defaults() {
        let read = with("num_key_value_heads", Value::Null).unwrap();
        assert_eq!(read.num_key_value_heads, 32);
        assert_eq!(with("head_dim", Value::Null).unwrap().head_dim, 128);
    }

    #[test]
    fn other_models_are_refused_by_the_field_that_tells() {
        for (field, value) in [
            ("model_type", json!("mistral")),
            ("architectures", json!(["MistralForCausalLM"])),
            ("attention_bias", json!(true)),
            ("mlp_bias", json!(true)),
            ("hidden_act", json!("gelu")),
            ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
            ("rope_parameters", json!({"rope_theta": 1e4, "rope_type": "yarn"})),
        ] {
            match with(field, value) {
                Err(ArchitectureError::Unsupported { field: found, .. }) => {
                    assert_eq!(found, field);
                }
                other => panic!("{field}: {other:?}"),
            }
        }
        assert!(matches!(
            with("num_key_value_heads", json!(5)),
            Err(ArchitectureError::Impossible { field: "num_key_value_heads", .. })
        ));
        assert_eq!(with("vocab_size", Value::Null), Err(ArchitectureError::Missing("vocab_size")));
        assert!(matches!(
            with("vocab_size", json!("many")),
            Err(ArchitectureError::WrongType { field: "vocab_size", .. })
        ));
        assert!(matches!(
            Architecture::from_hugging_face("[]"),
            Err(ArchitectureError::NotAnObject(_))
        ));
    }
}
