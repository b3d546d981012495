//! What the world says: the model folder and the editions, as far as they are there.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::load::load_task;
use crate::model::Architecture;
use crate::run::RunConfig;

/// What is known of the things that a run refers to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The shape in the model folder's `config.json`, if the folder has one.
    pub architecture: Option<Architecture>,
    /// Whether the tokenizer's file is there.
    pub tokenizer_found: bool,
    /// The editions that are there, by source.
    pub editions: BTreeMap<String, EditionFacts>,
    /// The task files that are there, by path.
    pub tasks: BTreeMap<PathBuf, TaskFacts>,
}

/// What a plan needs of a task file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFacts {
    /// The task's name.
    pub name: String,
    /// The metric that stands for it.
    pub metric: String,
}

/// What a plan needs of an edition's `manifest.json`; other fields are not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditionFacts {
    /// The number of targets in a window.
    pub sequence_length: u64,
    /// The number of windows.
    pub windows: u64,
    /// The number of tokens in them.
    pub tokens: u64,
    /// The number of tokens that the tokenizer knows.
    pub vocab_size: u64,
    /// The tokenizer's fingerprint, in hexadecimal digits.
    pub tokenizer: String,
    /// The edition's own fingerprint, in hexadecimal digits.
    pub fingerprint: String,
    /// The held-out part, if the edition has one.
    #[serde(skip)]
    pub held_out: Option<HeldOutFacts>,
}

/// What a plan needs of the held-out part's `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOutFacts {
    /// The number of targets in a window.
    pub sequence_length: u64,
    /// The number of windows.
    pub windows: u64,
    /// The number of tokens in them.
    pub tokens: u64,
    /// The tokenizer's fingerprint, in hexadecimal digits.
    pub tokenizer: String,
}

/// Looks at everything that a run refers to; what is not there is simply not among the facts.
///
/// # Errors
///
/// A file is there but cannot be read or understood.
pub fn gather(config: &RunConfig) -> Result<Facts, Error> {
    let architecture = match &config.model.path {
        Some(folder) => architecture(&folder.join("config.json"))?,
        None => None,
    };
    let mut editions = BTreeMap::new();
    for (name, source) in &config.sources {
        if let Some(mut facts) = manifest::<EditionFacts>(&source.edition)? {
            facts.held_out = manifest(&source.edition.join("held_out"))?;
            editions.insert(name.clone(), facts);
        }
    }
    let tokenizer_found = config.model.tokenizer_path().is_some_and(|path| path.is_file());
    let mut tasks = BTreeMap::new();
    for path in config.evaluation.iter().flat_map(|evaluation| &evaluation.tasks) {
        if path.is_file() {
            let task = load_task(path, &[])?.config;
            tasks.insert(path.clone(), TaskFacts { name: task.name, metric: task.metric });
        }
    }
    Ok(Facts { architecture, tokenizer_found, editions, tasks })
}

fn architecture(path: &Path) -> Result<Option<Architecture>, Error> {
    let Some(text) = read_if_there(path)? else {
        return Ok(None);
    };
    Architecture::from_hugging_face(&text).map(Some).map_err(|error| Error::Fact {
        path: path.to_owned(),
        reason: error.to_string(),
        remedy: "a run needs a Hugging Face folder of a plain Llama model".to_owned(),
    })
}

fn manifest<T: serde::de::DeserializeOwned>(edition: &Path) -> Result<Option<T>, Error> {
    let path = edition.join("manifest.json");
    let Some(text) = read_if_there(&path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text).map(Some).map_err(|error| Error::Fact {
        path,
        reason: format!("not the manifest of an edition: {error}"),
        remedy: "prepare the source again".to_owned(),
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}
