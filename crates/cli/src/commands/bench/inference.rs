//! How fast a model of random weights answers: what decoding and prefill have in common.

pub(super) mod decode;
pub(super) mod prefill;

use std::fmt;
use std::path::Path;

use burn::tensor::Device;
use serde::Serialize;
use terrace_base::{Seed, format_bytes};
use terrace_completion::{LanguageModel, Request};
use terrace_config::{Architecture, DeviceChoice};
use terrace_infer::memory::{RESERVED_BYTES, cache_bytes, loaded_bytes};
use terrace_infer::{Engine, EngineOptions};
use terrace_model::hf::Quantization;
use terrace_model::{FrozenLm, Precision};

use super::{resident_bytes, shape};
use crate::args::{InferenceArgs, WeightsChoice};
use crate::commands::model::held_scores;
use crate::context::Context;
use crate::device::{self, Limits};
use crate::error::CliError;
use crate::table::grouped;

/// What stays the same for all measurements of a command.
struct Bench {
    architecture: Architecture,
    choice: DeviceChoice,
    device: Device,
    limits: Option<Limits>,
}

/// A model to measure, in one format.
struct Model {
    weights: WeightsChoice,
    precision: Precision,
    model: FrozenLm,
}

/// What both answers say of the model and the device.
#[derive(Serialize)]
struct Subject<'a> {
    device: String,
    /// The card's name; null where there is none or it is not known.
    card: Option<String>,
    shape: &'a str,
    parameters: u64,
    layers: u64,
    /// Which of the ceilings are known: null where the card's limits are not.
    bytes_per_second_ceiling: Option<f64>,
    bf16_flops_ceiling: Option<f64>,
}

/// Memory, once all of a measurement was done.
#[derive(Clone, Copy, Serialize)]
struct Memory {
    /// What the weights are by arithmetic.
    weights_bytes: u64,
    /// What keys and values are by arithmetic.
    cache_bytes: u64,
    /// What the device's memory pools hold; null on the processor.
    device_bytes: Option<u64>,
    /// The resident set of the process; null where the system does not tell.
    resident_bytes: Option<u64>,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, parameters) = (self.shape, grouped(self.parameters));
        let device = self.card.as_deref().unwrap_or(&self.device);
        write!(f, "{shape}: {parameters} parameters, {} layers, on {device}", self.layers)
    }
}

impl Bench {
    fn new(args: &InferenceArgs, context: &Context) -> Result<Self, CliError> {
        let mut architecture = shape::architecture(&args.shape)?;
        if let Some(layers) = args.layers {
            architecture.num_hidden_layers = layers;
        }
        let limits =
            device::card(args.device, &context.environment).as_deref().and_then(Limits::of);
        let device = device::open(args.device, context)?;
        Ok(Self { architecture, choice: args.device, device, limits })
    }

    fn subject<'a>(&self, args: &'a InferenceArgs, context: &Context) -> Subject<'a> {
        let folder = Path::new(&args.shape).file_name().and_then(|name| name.to_str());
        Subject {
            device: self.choice.to_string(),
            card: device::card(self.choice, &context.environment),
            shape: folder.unwrap_or(&args.shape),
            parameters: self.architecture.parameter_count(),
            layers: self.architecture.num_hidden_layers,
            bytes_per_second_ceiling: self.limits.map(|limits| limits.bytes_per_second),
            bf16_flops_ceiling: self.limits.map(|limits| limits.bf16_flops),
        }
    }

    /// Draws the weights, after it is known that they fit, with a cache of `positions` and the scores of
    /// `chunk` rows of a sequence of `length`.
    fn draw(
        &self,
        weights: WeightsChoice,
        positions: usize,
        [chunk, length]: [usize; 2],
        context: &Context,
    ) -> Result<Model, CliError> {
        let asked = match weights {
            WeightsChoice::F32 => Some(Precision::F32),
            WeightsChoice::Bf16 => Some(Precision::Bf16),
            WeightsChoice::Int8 => None,
        };
        let precision = device::precision(asked, self.choice, &self.device)?;
        let scheme = Quantization { lm_head: !self.architecture.tie_word_embeddings };
        let quantization = (weights == WeightsChoice::Int8).then_some(scheme);
        let bytes = loaded_bytes(&self.architecture, quantization, precision);
        let cache = cache_bytes(&self.architecture, precision.bytes(), 1, positions as u64)
            + held_scores(self.choice, &self.architecture, precision, [chunk, length]);
        let reserved = if self.choice == DeviceChoice::Cpu { 0 } else { RESERVED_BYTES };
        let free = device::free_memory(self.choice, &context.environment);
        if let Some(free) = free.filter(|free| bytes + cache + reserved > *free) {
            let message = format!(
                "weights in {} take {}, keys, values and scores {}, and {} are free on {}",
                name(weights),
                format_bytes(bytes),
                format_bytes(cache),
                format_bytes(free),
                self.choice
            );
            let help = "measure fewer --layers, a smaller --batch or --chunk, or other --weights";
            return Err(CliError::environment(message).with_help(help));
        }
        context.note(&format!("drawing {} of weights in {}", format_bytes(bytes), name(weights)));
        let model = FrozenLm::random(&self.architecture, quantization, &self.device, precision)?;
        Ok(Model { weights, precision, model })
    }

    fn memory(&self, model: &Model, sequences: usize, length: usize) -> Memory {
        let quantization = (model.weights == WeightsChoice::Int8)
            .then_some(Quantization { lm_head: !self.architecture.tie_word_embeddings });
        let (sequences, length) = (sequences as u64, length as u64);
        let pools = self.device.memory_pool_usage();
        Memory {
            weights_bytes: loaded_bytes(&self.architecture, quantization, model.precision),
            cache_bytes: cache_bytes(
                &self.architecture,
                model.precision.bytes(),
                sequences,
                length,
            ),
            device_bytes: pools
                .filter(|_| self.choice != DeviceChoice::Cpu)
                .map(|usage| usage.bytes_reserved),
            resident_bytes: resident_bytes("VmRSS:"),
        }
    }
}

/// An engine with room for some sequences, which shares the model's memory.
fn engine(model: &Model, slots: usize, length: usize, chunk: usize) -> Engine {
    let options = EngineOptions {
        slots,
        context_length: length,
        prefill_tokens: chunk,
        ..EngineOptions::default()
    };
    Engine::new(model.model.clone(), None, options)
}

/// A prompt of its own for every key, so that nothing is found in the cache.
fn prompt(architecture: &Architecture, key: u64, count: usize) -> Vec<u32> {
    let stream = Seed(key).stream("prompt");
    (0..count as u64).map(|i| (stream.at(i) % architecture.vocab_size) as u32).collect()
}

/// Asks for as many tokens as it says, whatever they are.
fn submit(engine: &mut Engine, prompt: Vec<u32>, new_tokens: usize) -> Result<(), CliError> {
    let request = Request { ignore_end_of_text: true, ..Request::greedy(prompt, new_tokens) };
    engine.submit(request).map(|_| ()).map_err(CliError::input)
}

fn step(engine: &mut Engine) -> Result<(), CliError> {
    engine.step().map(|_| ()).map_err(CliError::device)
}

fn name(weights: WeightsChoice) -> &'static str {
    match weights {
        WeightsChoice::F32 => "f32",
        WeightsChoice::Bf16 => "bf16",
        WeightsChoice::Int8 => "int8",
    }
}

/// A share of a ceiling, for people.
fn share(found: f64, ceiling: Option<f64>) -> String {
    ceiling.map_or_else(|| "-".to_owned(), |ceiling| format!("{:.0}%", 100.0 * found / ceiling))
}
