//! The fields of requests that are known; all others are ignored.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

/// The body of a completion or a chat completion.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    pub(crate) model: Option<String>,
    pub(crate) prompt: Option<Prompts>,
    pub(crate) messages: Option<Vec<Message>>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) max_completion_tokens: Option<usize>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) seed: Option<i128>,
    pub(crate) stop: Option<Stops>,
    pub(crate) echo: Option<bool>,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) return_tokens_as_token_ids: Option<bool>,
    pub(crate) ignore_eos: Option<bool>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) n: Option<u64>,
    pub(crate) best_of: Option<u64>,
    pub(crate) suffix: Option<String>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) logit_bias: Option<BTreeMap<String, f64>>,
}

/// How a stream is written.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

/// The body of `/tokenize`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tokenize {
    pub(crate) prompt: Option<String>,
    pub(crate) add_special_tokens: Option<bool>,
}

/// The body of `/detokenize`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Detokenize {
    pub(crate) tokens: Option<Vec<u32>>,
}

/// A piece of a conversation.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) content: Option<Content>,
}

/// What is said in a message: a text, or pieces of which only texts can be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content(pub(crate) String);

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

/// A text or the ids of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// The prompts of a request, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prompts(pub(crate) Vec<Prompt>);

/// Texts that end a continuation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stops(pub(crate) Vec<String>);

/// How many alternatives are asked for: chats say whether, completions how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Logprobs {
    Whether(bool),
    Count(usize),
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(PromptsVisitor)
    }
}

struct PromptsVisitor;

impl<'de> Visitor<'de> for PromptsVisitor {
    type Value = Prompts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a list of strings, a list of token ids or a list of such lists")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Prompts, E> {
        Ok(Prompts(vec![Prompt::Text(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prompts, A::Error> {
        let mut prompts = Vec::new();
        let mut ids = Vec::new();
        while let Some(element) = list.next_element()? {
            match element {
                Element::Id(id) => ids.push(id),
                Element::Prompt(prompt) => prompts.push(prompt),
            }
            if !ids.is_empty() && !prompts.is_empty() {
                return Err(de::Error::custom("token ids beside whole prompts in one list"));
            }
        }
        if !ids.is_empty() {
            prompts.push(Prompt::Ids(ids));
        }
        Ok(Prompts(prompts))
    }
}

/// What a list of prompts is made of, or a prompt.
enum Element {
    Id(u32),
    Prompt(Prompt),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a token id or a list of token ids")
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Element, E> {
        let out_of_range = |_| E::invalid_value(de::Unexpected::Unsigned(id), &"a token id");
        u32::try_from(id).map(Element::Id).map_err(out_of_range)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Prompt(Prompt::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Element, A::Error> {
        let ids = Vec::deserialize(de::value::SeqAccessDeserializer::new(list))?;
        Ok(Element::Prompt(Prompt::Ids(ids)))
    }
}

impl<'de> Deserialize<'de> for Stops {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextsVisitor("a string or a list of strings")).map(Stops)
    }
}

/// A text or a list of texts.
struct TextsVisitor(&'static str);

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<String>, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(list))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of parts of type `text`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut text = String::new();
        while let Some(part) = list.next_element::<Part>()? {
            match (part.kind.as_str(), part.text) {
                ("text", Some(more)) => text.push_str(&more),
                (kind, _) => {
                    let kind = de::Unexpected::Str(kind);
                    return Err(de::Error::invalid_value(kind, &"a part of type `text`"));
                }
            }
        }
        Ok(Content(text))
    }
}

impl<'de> Deserialize<'de> for Logprobs {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(LogprobsVisitor)
    }
}

struct LogprobsVisitor;

impl Visitor<'_> for LogprobsVisitor {
    type Value = Logprobs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a number of alternatives")
    }

    fn visit_bool<E: de::Error>(self, whether: bool) -> Result<Logprobs, E> {
        Ok(Logprobs::Whether(whether))
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Logprobs, E> {
        Ok(Logprobs::Count(usize::try_from(count).unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::parse;

    fn prompts(json: &str) -> Vec<Prompt> {
        parse::<Fields>(json.as_bytes()).unwrap().prompt.unwrap().0
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(prompts(r#"{"prompt": "a"}"#), [text("a")]);
        assert_eq!(prompts(r#"{"prompt": ["a", "b"]}"#), [text("a"), text("b")]);
        assert_eq!(prompts(r#"{"prompt": [1, 2]}"#), [Prompt::Ids(vec![1, 2])]);
        let lists = [Prompt::Ids(vec![1, 2]), Prompt::Ids(vec![3])];
        assert_eq!(prompts(r#"{"prompt": [[1, 2], [3]]}"#), lists);
        assert_eq!(prompts(r#"{"prompt": []}"#), []);
    }

    #[test]
    fn null_is_absent_and_unknown_fields_are_ignored() {
        let fields: Fields = parse(
            br#"{"prompt": "a", "top_k": 50, "x": {"y": [1, {}]}, "stop": null, "seed": -1,
                "logprobs": null, "temperature": 0}"#,
        )
        .unwrap();
        assert!(fields.stop.is_none() && fields.logprobs.is_none());
        assert_eq!((fields.seed, fields.temperature), (Some(-1), Some(0.0)));
    }

    #[test]
    fn faults_name_their_field() {
        for (json, field, word) in [
            (r#"{"prompt": [1, "a"]}"#, "prompt", "beside"),
            (r#"{"prompt": 3}"#, "prompt", "a list of such lists"),
            (r#"{"prompt": [[1.5]]}"#, "prompt[0][0]", "1.5"),
            (r#"{"prompt": [-1]}"#, "prompt[0]", "-1"),
            (r#"{"prompt": [4294967296]}"#, "prompt[0]", "4294967296"),
            (r#"{"max_tokens": "x"}"#, "max_tokens", "line 1"),
            (r#"{"max_tokens": -1}"#, "max_tokens", "-1"),
            (r#"{"stop": [3]}"#, "stop[0]", "string"),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
                "messages[0].content",
                "image_url",
            ),
        ] {
            let refusal = parse::<Fields>(json.as_bytes()).unwrap_err().body();
            let error = &refusal["error"];
            assert!(error["message"].as_str().unwrap().contains(word), "{json}: {refusal}");
            assert!(error["param"].as_str().unwrap().starts_with(field), "{json}: {refusal}");
        }
        for json in ["", "[]", "\"a\"", "{", "{} {}", "null"] {
            let refusal = parse::<Fields>(json.as_bytes()).unwrap_err();
            assert_eq!(refusal.body()["error"]["code"], "invalid_json", "{json}");
        }
    }
}
