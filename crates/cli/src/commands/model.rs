//! From what a person calls a model to one that can be asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use terrace_base::{Fingerprint, FingerprintHasher, format_bytes};
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_config::{Architecture, DeviceChoice, RunConfig};
use terrace_infer::memory::{RESERVED_BYTES, cache_bytes, loaded_bytes, scores_bytes};
use terrace_infer::{Engine, EngineOptions};
use terrace_model::hf::{self, Quantization};
use terrace_model::{FrozenLm, Precision};
use terrace_tokenizer::Tokenizer;
use terrace_train::History;

use super::export::{find, run_directory};
use crate::context::Context;
use crate::device;
use crate::error::CliError;

/// The context where nobody says how long, if the model has room for it.
const CONTEXT: usize = 4096;

/// A model that was found, and is not loaded yet.
pub(super) struct FoundModel {
    place: Place,
    pub(super) architecture: Architecture,
    quantization: Option<Quantization>,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// The tokens that end a text.
    end_of_text: Vec<u32>,
}

/// Where the weights are.
enum Place {
    Folder(PathBuf),
    Run(Box<(RunConfig, RunLayout, Checkpoint)>),
}

/// A model with what belongs to it.
struct LoadedModel {
    model: FrozenLm,
    tokenizer: Arc<Tokenizer>,
    /// The tokens that end a text.
    end_of_text: Vec<u32>,
}

/// Where a model is to work, and on how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) device: DeviceChoice,
    pub(super) precision: Precision,
    /// The sequences at once.
    pub(super) slots: usize,
    /// The tokens of each, at most.
    pub(super) length: usize,
}

/// Finds a Hugging Face folder, of floats or of eight-bit integers, the newest valid checkpoint of a run, or a
/// checkpoint.
pub(super) fn locate(path: &Path) -> Result<FoundModel, CliError> {
    if path.join("config.json").is_file() {
        let (tokenizer, end_of_text) = tokenizer(&path.join("tokenizer.json"), path)?;
        let hf::Summary { architecture, quantization, .. } = hf::describe(path)?;
        return Ok(FoundModel {
            architecture,
            quantization,
            place: Place::Folder(path.to_owned()),
            tokenizer,
            end_of_text,
        });
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
    Ok(FoundModel {
        architecture: architecture(&config, &layout)?,
        quantization: None,
        place: Place::Run(Box::new((config, layout, checkpoint))),
        tokenizer,
        end_of_text,
    })
}

/// The shape of a run's model.
fn architecture(config: &RunConfig, layout: &RunLayout) -> Result<Architecture, CliError> {
    let model = &config.model;
    let folder = match &model.upscale {
        Some(_) => Some(layout.upscaled()),
        None => model.path.clone(),
    };
    match (folder, &model.architecture) {
        (Some(folder), _) => Ok(hf::describe(&folder)?.architecture),
        (None, Some(architecture)) => Ok(architecture.clone()),
        (None, None) => unreachable!("a checked configuration names a model"),
    }
}

impl FoundModel {
    /// What tells this model from others: a hash of the checkpoint's state, or of the folder's weights
    /// and of how they are meant. Reads the whole folder.
    pub(super) fn fingerprint(&self) -> Result<Fingerprint, CliError> {
        match &self.place {
            Place::Run(run) => Ok(run.2.state_digest()),
            Place::Folder(path) => {
                folder_fingerprint(path).map_err(|error| CliError::read(path, error))
            }
        }
    }

    /// The most tokens of a sequence: what was asked for, or what is usual and the model has room for.
    pub(super) fn context_length(&self, asked: Option<usize>) -> Result<usize, CliError> {
        let room = self.architecture.max_position_embeddings as usize;
        let length = asked.unwrap_or(CONTEXT.min(room));
        if length == 0 || length > room {
            let message =
                format!("--context: found {length}, expected 1 to {room}, what the model has");
            return Err(CliError::input(message));
        }
        Ok(length)
    }

    /// Whether weights and cache have room in what is free; where that is not known, the device
    /// itself says so later.
    ///
    /// # Errors
    ///
    /// They have not.
    fn refuse_what_does_not_fit(&self, room: Room, context: &Context) -> Result<(), CliError> {
        match device::free_memory(room.device, &context.environment) {
            Some(free) => self.fits(room, free),
            None => Ok(()),
        }
    }

    fn fits(&self, room: Room, free: u64) -> Result<(), CliError> {
        let Room { device, precision, slots, length } = room;
        let chunk = EngineOptions::default().prefill_tokens;
        let cache = cache_bytes(&self.architecture, precision.bytes(), slots as u64, length as u64)
            + held_scores(device, &self.architecture, precision, [chunk, length]);
        let (weights, reserved) = match device {
            // Integers stay in the mapped files, and the system gives that memory up when it has to.
            DeviceChoice::Cpu if self.quantization.is_some() => (0, 0),
            DeviceChoice::Cpu => (loaded_bytes(&self.architecture, None, precision), 0),
            _ => (loaded_bytes(&self.architecture, self.quantization, precision), RESERVED_BYTES),
        };
        if weights + cache + reserved <= free {
            return Ok(());
        }
        let message = format!(
            "weights in {precision} take {}, keys and values of {slots} sequences of {length} tokens \
             {}, and {} are free on {device}",
            format_bytes(weights),
            format_bytes(cache),
            format_bytes(free)
        );
        let help = match (weights + reserved < free, precision, self.quantization) {
            (true, ..) => "fewer sequences at once (--batch), or shorter ones",
            (false, Precision::F32, _) => "--precision bf16 takes half",
            (false, Precision::Bf16, None) => "`terrace quantize` makes weights of half the size",
            (false, Precision::Bf16, Some(_)) => "a device with more memory",
        };
        Err(CliError::environment(message).with_help(help))
    }

    /// Loads the weights into an engine, if they have room beside what it keeps.
    pub(super) fn engine(
        self,
        device: &Device,
        room: Room,
        batch_invariant: bool,
        context: &Context,
    ) -> Result<(Engine, Arc<Tokenizer>), CliError> {
        self.refuse_what_does_not_fit(room, context)?;
        let LoadedModel { model, tokenizer, end_of_text } = self.load(device, room.precision)?;
        let options = EngineOptions {
            slots: room.slots,
            context_length: room.length,
            batch_invariant,
            end_of_text,
            ..EngineOptions::default()
        };
        Ok((Engine::new(model, Some(tokenizer.clone()), options), tokenizer))
    }

    /// Loads the weights.
    fn load(self, device: &Device, precision: Precision) -> Result<LoadedModel, CliError> {
        let model = match self.place {
            Place::Folder(folder) => hf::load_frozen_in(&folder, device, precision)?,
            Place::Run(run) => {
                let (config, layout, checkpoint) = *run;
                // The weights of a run are read as f32: those in another precision are made of them in
                // the host's memory, so that the device never holds both. So are f32 ones of a run in
                // bf16, which not every device has.
                let is_f32 = config.training.precision != terrace_config::Precision::Bf16;
                let first = match device::host() {
                    Some(host) if precision != Precision::F32 || !is_f32 => host,
                    _ => device.clone(),
                };
                let model = terrace_train::load_weights(&config, &layout, &checkpoint, &first)
                    .map_err(super::training::train_error)?;
                FrozenLm::from(model).placed(device, precision)
            }
        };
        Ok(LoadedModel { model, tokenizer: self.tokenizer, end_of_text: self.end_of_text })
    }
}

/// The bytes of the scores of `chunk` rows of a sequence of `length`, where they are held at all.
pub(super) fn held_scores(
    device: DeviceChoice,
    architecture: &Architecture,
    precision: Precision,
    [chunk, length]: [usize; 2],
) -> u64 {
    match (device, precision) {
        (DeviceChoice::Cpu, Precision::F32) => 0,
        _ => scores_bytes(architecture, precision, chunk as u64, length as u64),
    }
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

/// What a model is called in a log of items: scores that are in it already are those of the same
/// weights, computed in the same way.
pub(super) fn asked_as(
    digest: Fingerprint,
    device: DeviceChoice,
    precision: Precision,
    batch_invariant: bool,
) -> String {
    let mut hasher = FingerprintHasher::new();
    hasher.update(&digest.0);
    hasher.update(device.to_string().as_bytes());
    hasher.update(precision.to_string().as_bytes());
    hasher.update(&[u8::from(batch_invariant)]);
    hasher.finish().to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_a_remedy() {
        const GIB: u64 = 1 << 30;
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/base");
        let mut found = locate(&base).unwrap();
        found.architecture = Architecture::named("yi-9b").unwrap();
        let room = |precision, slots| Room {
            device: DeviceChoice::Cuda(0),
            precision,
            slots,
            length: 4096,
        };
        let bf16 = Precision::Bf16;
        assert!(found.fits(room(bf16, 12), 24 * GIB).is_ok());
        let help = |found: &FoundModel, room| {
            found.fits(room, 24 * GIB).unwrap_err().help().unwrap().to_owned()
        };
        assert!(help(&found, room(bf16, 17)).contains("--batch"));
        assert!(help(&found, room(Precision::F32, 1)).contains("bf16"));
        assert!(found.fits(room(bf16, 1), 17 * GIB).is_err());
        found.quantization = Some(Quantization { lm_head: true });
        assert!(found.fits(room(bf16, 32), 24 * GIB).is_ok());
        let host = Room { device: DeviceChoice::Cpu, ..room(Precision::F32, 1) };
        assert!(found.fits(host, GIB).is_ok(), "integers stay in their files");
    }
}
