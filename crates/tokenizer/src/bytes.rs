//! How many bytes of text each id stands for, read off the canonical JSON.

use std::collections::HashMap;

use serde_json::Value;

/// One entry per id, special tokens and gaps in the id space included.
pub(crate) struct Vocabulary {
    pub(crate) ids: HashMap<String, u32>,
    pub(crate) byte_lengths: Vec<u32>,
    pub(crate) special: Vec<bool>,
}

impl Vocabulary {
    /// Reads a canonical tokenizer; the error says what is missing.
    pub(crate) fn read(canonical: &Value) -> Result<Self, String> {
        let model = &canonical["model"];
        let spelling = Spelling::of(canonical);
        let mut vocabulary =
            Self { ids: HashMap::new(), byte_lengths: Vec::new(), special: Vec::new() };
        match &model["vocab"] {
            Value::Object(entries) => {
                for (token, id) in entries {
                    vocabulary.insert(token, id_of(id)?, spelling.byte_length(token), false);
                }
            }
            Value::Array(entries) => {
                for (id, entry) in entries.iter().enumerate() {
                    let token = entry[0].as_str().ok_or("a vocabulary entry has no text")?;
                    let id = u32::try_from(id).map_err(|_| "the vocabulary is too large")?;
                    vocabulary.insert(token, id, spelling.byte_length(token), false);
                }
            }
            _ => return Err("its model has no `vocab`".to_owned()),
        }
        // Added tokens override the model's entries: their text is taken literally.
        for added in canonical["added_tokens"].as_array().map_or(&[][..], Vec::as_slice) {
            let token = added["content"].as_str().ok_or("an added token has no `content`")?;
            let special = added["special"].as_bool().unwrap_or(false);
            let length = if special { 0 } else { length(token) };
            vocabulary.insert(token, id_of(&added["id"])?, length, special);
        }
        if vocabulary.ids.is_empty() {
            return Err("its vocabulary is empty".to_owned());
        }
        Ok(vocabulary)
    }

    fn insert(&mut self, token: &str, id: u32, byte_length: u32, special: bool) {
        let index = id as usize;
        if self.byte_lengths.len() <= index {
            self.byte_lengths.resize(index + 1, 0);
            self.special.resize(index + 1, false);
        }
        self.byte_lengths[index] = byte_length;
        self.special[index] = special;
        self.ids.insert(token.to_owned(), id);
    }
}

/// How the vocabulary spells text.
struct Spelling {
    /// Every character of an entry stands for one byte.
    byte_level: bool,
    /// Entries like `<0x0A>` stand for one byte.
    byte_fallback: bool,
    /// A character that stands for a space, such as `▁`.
    space: Option<String>,
}

impl Spelling {
    fn of(canonical: &Value) -> Self {
        let model = &canonical["model"];
        Self {
            byte_level: model["byte_level"].as_bool().unwrap_or(false),
            byte_fallback: model["byte_fallback"].as_bool().unwrap_or(false),
            space: space_of(&canonical["decoder"]),
        }
    }

    fn byte_length(&self, token: &str) -> u32 {
        if self.byte_level {
            return u32::try_from(token.chars().count()).expect("an entry is short");
        }
        if self.byte_fallback && is_byte(token) {
            return 1;
        }
        match &self.space {
            Some(space) => length(&token.replace(space.as_str(), " ")),
            None => length(token),
        }
    }
}

/// The character that the decoder turns into a space.
fn space_of(decoder: &Value) -> Option<String> {
    match decoder["type"].as_str()? {
        "Metaspace" => decoder["replacement"].as_str().map(str::to_owned),
        "Replace" if decoder["content"] == " " => {
            decoder["pattern"]["String"].as_str().map(str::to_owned)
        }
        "Sequence" => decoder["decoders"].as_array()?.iter().find_map(space_of),
        _ => None,
    }
}

fn is_byte(token: &str) -> bool {
    token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

fn id_of(value: &Value) -> Result<u32, String> {
    value
        .as_u64()
        .and_then(|id| u32::try_from(id).ok())
        // The id space becomes tables and embedding rows; an absurd id is a damaged file.
        .filter(|id| *id < 1 << 28)
        .ok_or_else(|| format!("`{value}` is not a token id"))
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).expect("an entry is short")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lengths(canonical: &Value) -> Vec<u32> {
        Vocabulary::read(canonical).unwrap().byte_lengths
    }

    #[test]
    fn byte_level_entries_count_characters() {
        let canonical = json!({
            "model": {"byte_level": true, "vocab": {"a": 0, "Ġthe": 1, "ä½ł": 2, "<|end|>": 3}},
            "added_tokens": [{"id": 3, "content": "<|end|>", "special": true}],
        });
        assert_eq!(lengths(&canonical), [1, 4, 3, 0]);
    }

    #[test]
    fn byte_fallback_and_metaspace_are_undone() {
        let canonical = json!({
            "model": {"byte_fallback": true, "vocab": {"<0x0A>": 0, "▁the": 1, "你": 2, "<0xZZ>": 3}},
            "added_tokens": [{"id": 5, "content": "    ", "special": false}],
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
            ]},
        });
        assert_eq!(lengths(&canonical), [1, 4, 3, 6, 0, 4]);
    }

    #[test]
    fn damage_is_named() {
        let found = |canonical: Value| Vocabulary::read(&canonical).err().unwrap();
        assert!(found(json!({"model": {}})).contains("vocab"));
        assert!(found(json!({"model": {"vocab": {}}})).contains("empty"));
        assert!(found(json!({"model": {"vocab": {"a": -1}}})).contains("-1"));
    }
}
