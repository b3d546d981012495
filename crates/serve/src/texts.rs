//! The special tokens and the chat template that come with a tokenizer.

use serde_json::Value;

use crate::{Error, Result};

/// What a tokenizer's configuration says of its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Begins a text.
    pub bos_token: Option<String>,
    /// Ends a text; by default what the model takes for it.
    pub eos_token: Option<String>,
    /// Fills what is shorter than others.
    pub pad_token: Option<String>,
    /// Whether `add_special_tokens` puts the first token before a text.
    pub add_bos: bool,
    /// A Jinja template that writes a conversation as one text.
    pub chat_template: Option<String>,
}

impl Texts {
    /// Reads the content of a Hugging Face `tokenizer_config.json`.
    ///
    /// Of several named chat templates the one named `default` is taken. A template in a file of its
    /// own goes into [`chat_template`](Self::chat_template) afterwards.
    ///
    /// # Errors
    ///
    /// It is no JSON object.
    pub fn parse(tokenizer_config: &str) -> Result<Self> {
        let config: Value =
            serde_json::from_str(tokenizer_config).map_err(|e| Error::Texts(e.to_string()))?;
        if !config.is_object() {
            return Err(Error::Texts("it is another kind of JSON".to_owned()));
        }
        Ok(Self {
            bos_token: token(&config["bos_token"]),
            eos_token: token(&config["eos_token"]),
            pad_token: token(&config["pad_token"]),
            add_bos: config["add_bos_token"].as_bool().unwrap_or(false),
            chat_template: template(&config["chat_template"]),
        })
    }
}

/// A token is written as its text, or as an object that has it as `content`.
fn token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

fn template(value: &Value) -> Option<String> {
    let named = || value.as_array()?.iter().find(|entry| entry["name"] == "default");
    value.as_str().or_else(|| named()?["template"].as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_templates_are_found_in_every_spelling() {
        let text = r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
            "pad_token": null, "add_bos_token": true,
            "chat_template": [{"name": "tools", "template": "x"},
                              {"name": "default", "template": "y"}]}"#;
        let texts = Texts::parse(text).unwrap();
        assert_eq!(texts.bos_token.as_deref(), Some("<s>"));
        assert_eq!(texts.eos_token.as_deref(), Some("</s>"));
        assert_eq!((texts.pad_token, texts.add_bos), (None, true));
        assert_eq!(texts.chat_template.as_deref(), Some("y"));
        assert_eq!(Texts::parse("{}").unwrap(), Texts::default());
        assert!(Texts::parse("[1]").is_err() && Texts::parse("{").is_err());
    }
}
