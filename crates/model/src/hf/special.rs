//! The tokens that end a text.

use std::path::Path;

use serde_json::Value;

use super::CONFIG;
use crate::Error;

/// The tokens that end a text, as the folder says it: by id in `generation_config.json` and
/// `config.json`, by text in `tokenizer_config.json`, where `id_of` knows its id.
///
/// # Errors
///
/// A file is there but cannot be read, or is no JSON.
pub fn end_of_text(folder: &Path, id_of: impl Fn(&str) -> Option<u32>) -> Result<Vec<u32>, Error> {
    let mut ids = Vec::new();
    for name in ["generation_config.json", CONFIG] {
        let value = read(&folder.join(name))?;
        let found = match &value["eos_token_id"] {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        let found = found.iter().filter_map(Value::as_u64);
        ids.extend(found.filter_map(|id| u32::try_from(id).ok()));
    }
    let value = read(&folder.join("tokenizer_config.json"))?;
    let token = value["eos_token"].as_str().or(value["eos_token"]["content"].as_str());
    ids.extend(token.and_then(id_of));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Null where the file is not there.
fn read(path: &Path) -> Result<Value, Error> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Config { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_its_say() {
        let home = tempfile::tempdir().unwrap();
        let ends = || end_of_text(home.path(), |token| (token == "</s>").then_some(7));
        assert_eq!(ends().unwrap(), [0u32; 0]);
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        write("config.json", r#"{"eos_token_id": 2}"#);
        write("generation_config.json", r#"{"eos_token_id": [5, 2]}"#);
        write("tokenizer_config.json", r#"{"eos_token": {"content": "</s>"}}"#);
        assert_eq!(ends().unwrap(), [2, 5, 7]);
        write("tokenizer_config.json", "{");
        assert!(ends().unwrap_err().to_string().contains("tokenizer_config.json"));
    }
}
