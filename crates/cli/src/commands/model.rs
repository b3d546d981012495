//! From what a person calls a model to one that can be asked.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use terrace_checkpoint::RunLayout;
use terrace_model::{FrozenLm, hf};
use terrace_tokenizer::Tokenizer;
use terrace_train::History;

use super::export::{find, run_directory};
use crate::error::CliError;

/// A model with what belongs to it.
pub(super) struct LoadedModel {
    pub(super) model: FrozenLm,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// The tokens that end a text.
    pub(super) end_of_text: Vec<u32>,
}

/// Loads a Hugging Face folder, of floats or of eight-bit integers, the newest valid checkpoint of a run, or a checkpoint.
pub(super) fn load(path: &Path, device: &Device) -> Result<LoadedModel, CliError> {
    if path.join("config.json").is_file() {
        let (tokenizer, end_of_text) = tokenizer(&path.join("tokenizer.json"), path)?;
        return Ok(LoadedModel { model: hf::load_frozen(path, device)?, tokenizer, end_of_text });
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
    Ok(LoadedModel { model: model.into(), tokenizer, end_of_text })
}

/// Reads a tokenizer; the folder beside it says which tokens end a text.
pub(super) fn tokenizer(
    file: &Path,
    beside: &Path,
) -> Result<(Arc<Tokenizer>, Vec<u32>), CliError> {
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
