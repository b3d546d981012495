//! From what a person calls a model to one that can be asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use terrace_base::{Fingerprint, FingerprintHasher, format_bytes};
use terrace_checkpoint::RunLayout;
use terrace_config::{Architecture, DeviceChoice};
use terrace_infer::EngineOptions;
use terrace_infer::memory::cache_bytes;
use terrace_model::{FrozenLm, hf};
use terrace_tokenizer::Tokenizer;
use terrace_train::History;

use super::export::{find, run_directory};
use crate::error::CliError;
use crate::machine;

/// The context where nobody says how long, if the model has room for it.
const CONTEXT: usize = 4096;

/// A model with what belongs to it.
pub(super) struct LoadedModel {
    pub(super) model: FrozenLm,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// The tokens that end a text.
    pub(super) end_of_text: Vec<u32>,
    /// The digest of the state that a checkpoint holds.
    state: Option<Fingerprint>,
}

/// Loads a Hugging Face folder, of floats or of eight-bit integers, the newest valid checkpoint of a run, or a checkpoint.
pub(super) fn load(path: &Path, device: &Device) -> Result<LoadedModel, CliError> {
    if path.join("config.json").is_file() {
        let (tokenizer, end_of_text) = tokenizer(&path.join("tokenizer.json"), path)?;
        let model = hf::load_frozen(path, device)?;
        return Ok(LoadedModel { model, tokenizer, end_of_text, state: None });
    }
    let layout = RunLayout::new(run_directory(path));
    if !layout.is_run() {
        let message = format!(
            "{} is neither a Hugging Face folder nor a run or a checkpoint of one",
            path.display()
        );
        return Err(CliError::input(message).with_help("name a folder with config.json, or a run"));
    }
    let history = History::open(&layout).map_err(super::training::train_error)?;
    let config = history.in_force().map_err(super::training::train_error)?.config;
    let file = config.model.tokenizer_path().ok_or_else(|| no_tokenizer(path))?;
    let beside = file.parent().map(Path::to_owned).unwrap_or_default();
    let (tokenizer, end_of_text) = tokenizer(&file, &beside)?;
    let checkpoint = find(path, &layout)?;
    let model = terrace_train::load_weights(&config, &layout, &checkpoint, device)
        .map_err(super::training::train_error)?;
    let state = Some(checkpoint.state_digest());
    Ok(LoadedModel { model: model.into(), tokenizer, end_of_text, state })
}

fn tokenizer(file: &Path, beside: &Path) -> Result<(Arc<Tokenizer>, Vec<u32>), CliError> {
    if !file.is_file() {
        return Err(no_tokenizer(file));
    }
    let tokenizer = Tokenizer::load(file).map_err(|error| CliError::input(error).at(file))?;
    let end_of_text = hf::end_of_text(beside, |token| tokenizer.token_id(token))?;
    Ok((Arc::new(tokenizer), end_of_text))
}

fn no_tokenizer(path: &Path) -> CliError {
    let message = format!("{}: there is no tokenizer.json", path.display());
    CliError::input(message).with_help("text needs the tokenizer that the model was trained with")
}

impl LoadedModel {
    /// What tells this model from others: a hash of the checkpoint's state, or of the folder's weights
    /// and of how they are meant. Reads the whole folder.
    pub(super) fn fingerprint(&self, path: &Path) -> Result<Fingerprint, CliError> {
        match self.state {
            Some(state) => Ok(state),
            None => folder_fingerprint(path).map_err(|error| CliError::read(path, error)),
        }
    }
}

fn folder_fingerprint(path: &Path) -> std::io::Result<Fingerprint> {
    let is_weights = |file: &PathBuf| file.extension().is_some_and(|end| end == "safetensors");
    let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let entries = entries.collect::<std::io::Result<Vec<PathBuf>>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().filter(is_weights).collect();
    files.sort();
    files.insert(0, path.join("config.json"));
    let mut hasher = FingerprintHasher::new();
    for file in files {
        hasher.update(&Fingerprint::of_file(&file)?.0);
    }
    Ok(hasher.finish())
}

/// The most tokens of a sequence: what was asked for, or what is usual and the model has room for.
pub(super) fn context_length(
    asked: Option<usize>,
    architecture: &Architecture,
) -> Result<usize, CliError> {
    let room = architecture.max_position_embeddings as usize;
    let length = asked.unwrap_or(CONTEXT.min(room));
    if length == 0 || length > room {
        let message =
            format!("--context: found {length}, expected 1 to {room}, what the model has");
        return Err(CliError::input(message));
    }
    Ok(length)
}

/// Whether the cache has room on the processor; other devices say so themselves.
pub(super) fn refuse_cache(
    device: DeviceChoice,
    architecture: &Architecture,
    options: &EngineOptions,
) -> Result<(), CliError> {
    let (slots, length) = (options.slots as u64, options.context_length as u64);
    let needed = cache_bytes(architecture, size_of::<f32>() as u64, slots, length);
    let free = machine::memory().available_bytes;
    if device != DeviceChoice::Cpu || free == 0 || needed <= free {
        return Ok(());
    }
    let message = format!(
        "keys and values of {slots} sequences of {length} tokens take {}, and {} are free",
        format_bytes(needed),
        format_bytes(free)
    );
    Err(CliError::environment(message).with_help("a smaller --batch, or fewer tokens for each"))
}
