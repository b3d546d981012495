//! What decides the content of an edition, as its manifest remembers it.

use serde_json::{Value, json};
use terrace_config::{ContaminationConfig, PrepareConfig};
use terrace_data::Packing;

use crate::contamination::TaskItems;
use crate::input::Probe;
use crate::{Error, Result};

/// A document's bytes are counted in 32 bits, and a batch's tokens in 31.
const LARGEST_DOCUMENT: u64 = 1 << 30;
/// A shard's number has five digits.
const MOST_PARTITIONS: u32 = 100_000;
const LONGEST_SEQUENCE: usize = 1 << 20;

/// Refuses values that no edition can be made with.
pub(crate) fn check(config: &PrepareConfig) -> Result<()> {
    let setting = |name, found: String, expected| Err(Error::Setting { name, found, expected });
    if !(1..=LONGEST_SEQUENCE).contains(&config.sequence_length) {
        let found = config.sequence_length.to_string();
        return setting("sequence_length", found, "1 to 1,048,576");
    }
    if !(1..=MOST_PARTITIONS).contains(&config.partitions) {
        return setting("partitions", config.partitions.to_string(), "1 to 100,000");
    }
    let bytes = config.maximum_document_bytes.0;
    if !(1..=LARGEST_DOCUMENT).contains(&bytes) {
        return setting("maximum_document_bytes", bytes.to_string(), "1 byte to 1 GiB");
    }
    if config.maximum_characters != 0 && config.maximum_characters < config.minimum_characters {
        let found = config.maximum_characters.to_string();
        return setting("maximum_characters", found, "at least minimum_characters, or 0 for none");
    }
    if let Some(contamination) = &config.contamination {
        let lengths = ContaminationConfig::NGRAMS;
        if !lengths.contains(&contamination.ngram) {
            let found = contamination.ngram.to_string();
            return setting("contamination.ngram", found, "5 to 64");
        }
        if !lengths.contains(&contamination.minimum_words) {
            let found = contamination.minimum_words.to_string();
            return setting("contamination.minimum_words", found, "5 to 64");
        }
        if contamination.tasks.is_empty() {
            return setting("contamination.tasks", "empty".to_owned(), "at least one task file");
        }
    }
    if config.inputs.iter().all(|input| input.paths.is_empty()) {
        return setting("inputs", "empty".to_owned(), "at least one path");
    }
    Ok(())
}

/// The settings of one part, for its manifest.
///
/// Nothing here says where a file lies, how many threads there are or how much memory: those decide
/// nothing.
pub(crate) fn describe(
    config: &PrepareConfig,
    inputs: &[Probe],
    held_out: &[Probe],
    items: Option<&TaskItems>,
    part: &str,
) -> Value {
    json!({
        "part": part,
        "source": config.source,
        "sequence_length": config.sequence_length,
        "packing": packing(config),
        "append_eos": config.append_eos,
        "seed": config.seed,
        "partitions": config.partitions,
        "text_column": config.text_column,
        "id_column": config.id_column,
        "minimum_characters": config.minimum_characters,
        "maximum_characters": config.maximum_characters,
        "maximum_document_bytes": config.maximum_document_bytes.0,
        "normalization": config.normalization,
        "deduplicate": config.deduplicate,
        "inputs": inputs,
        "held_out": held_out,
        "contamination": items.map(TaskItems::settings),
    })
}

pub(crate) fn packing(config: &PrepareConfig) -> Packing {
    match config.packing {
        terrace_config::Packing::ConcatAndChunk => Packing::ConcatAndChunk,
        terrace_config::Packing::BestFit => Packing::BestFit,
    }
}

/// The first setting in which two descriptions differ, in words.
pub(crate) fn difference(found: &Value, wanted: &Value) -> Option<String> {
    let wanted = wanted.as_object().expect("a description is an object");
    // Older editions have no word of what they could not do yet.
    let differs = |key: &str, value: &Value| found.get(key).unwrap_or(&Value::Null) != value;
    wanted.iter().find(|&(key, value)| differs(key, value)).map(|(key, value)| {
        match (key.as_str(), found.get(key)) {
            ("inputs" | "held_out" | "contamination", _) | (_, None) => format!("other {key}"),
            (_, Some(old)) => format!("other settings ({key} is {old}, not {value})"),
        }
    })
}
