//! Describing and verifying a Hugging Face model folder.

use std::path::Path;

use serde_json::json;
use terrace_base::{Fingerprint, format_bytes};
use terrace_model::{Error, hf};

use super::{Description, Look, Problem};
use crate::error::{CliError, chain};
use crate::table::{Table, facts, grouped};

/// Describes a model folder; its tensors have to be those that `config.json` calls for. The folder
/// holds no hashes to compare with: those of its files are shown.
pub(super) fn describe(look: &Look<'_>) -> Result<Description, CliError> {
    let summary = match hf::describe(look.path) {
        Ok(summary) => summary,
        Err(error) => {
            return Ok(Description {
                problems: vec![problem(look.path, &error)],
                ..Default::default()
            });
        }
    };
    let mut table = Table::new(["file", "bytes", "blake3"]);
    let mut files = Vec::new();
    for file in &summary.files {
        let path = look.path.join(&file.name);
        let hash = match look.verify.then(|| Fingerprint::of_file(&path)) {
            Some(Ok(hash)) => Some(hash.to_string()),
            Some(Err(error)) => return Err(CliError::read(&path, error)),
            None => None,
        };
        table.row([
            file.name.clone(),
            grouped(file.bytes),
            hash.as_ref().map_or_else(|| "-".to_owned(), |hash| hash[..12].to_owned()),
        ]);
        files.push(json!({"name": file.name, "bytes": file.bytes, "blake3": hash}));
    }
    let architecture = &summary.architecture;
    let bytes: u64 = summary.files.iter().map(|file| file.bytes).sum();
    let text = facts(&[
        ("parameters", grouped(architecture.parameter_count())),
        ("layers", architecture.num_hidden_layers.to_string()),
        ("hidden size", architecture.hidden_size.to_string()),
        (
            "heads",
            format!(
                "{} query, {} key-value, {} wide",
                architecture.num_attention_heads,
                architecture.num_key_value_heads,
                architecture.head_dim
            ),
        ),
        ("MLP width", architecture.intermediate_size.to_string()),
        ("vocabulary", grouped(architecture.vocab_size)),
        ("embeddings", if architecture.tie_word_embeddings { "tied" } else { "untied" }.to_owned()),
        ("positions", grouped(architecture.max_position_embeddings)),
        (
            "weights",
            match summary.quantization {
                None => "floats".to_owned(),
                Some(scheme) if scheme.lm_head => "eight-bit integers, lm_head too".to_owned(),
                Some(_) => "eight-bit integers".to_owned(),
            },
        ),
        ("tensors", format!("{}, {}", summary.tensors, summary.dtypes.join(" and "))),
        ("size", format_bytes(bytes)),
    ]);
    let facts = super::fields(&json!({
        "parameters": architecture.parameter_count(),
        "architecture": architecture,
        "quantization": summary.quantization,
        "tensors": summary.tensors,
        "dtypes": summary.dtypes,
        "files": files,
    }));
    Ok(Description { facts, text: format!("{text}\n{}", table.render()), problems: Vec::new() })
}

fn problem(folder: &Path, error: &Error) -> Problem {
    let file = match error {
        Error::Io { path, .. } | Error::Config { path, .. } | Error::Malformed { path, .. } => path,
        _ => folder,
    };
    Problem { file: file.to_owned(), message: chain(error) }
}
