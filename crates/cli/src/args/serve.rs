//! The arguments of `terrace serve`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use terrace_config::DeviceChoice;
use terrace_model::Precision;

use super::parse::parse_device;

/// The arguments of `terrace serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
/v1/completions, /v1/chat/completions (with a chat template), /v1/models, /tokenize, /detokenize,
/tokenizer_info, /health and /metrics. SIGINT and SIGTERM end it in good order, a second one at once.

Examples:
  terrace serve data/base --port 8000
  curl 127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \\
       -d '{\"prompt\": \"def add(a, b):\", \"max_tokens\": 16}'")]
pub(crate) struct ServeArgs {
    /// A Hugging Face folder, a run (its newest valid checkpoint) or one of its checkpoints
    pub(crate) model: PathBuf,
    /// The port; 0 takes a free one
    #[arg(long, value_name = "P", default_value_t = 8000)]
    pub(crate) port: u16,
    /// The address to listen on; only this machine reaches the default
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// The model's name in requests and replies; if not given, that of its folder
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A file with the key that clients have to send; without it everyone is answered
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key: Option<PathBuf>,
    /// The requests that are worked on at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
    /// The most tokens of prompt and continuation together; if not given, 4096 or what the model has
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// Answers that do not depend on the batch to the last bit, on the processor; slower
    #[arg(long)]
    pub(crate) batch_invariant: bool,
    /// The device: cpu, cuda, cuda:1, wgpu
    #[arg(long, value_parser = parse_device, default_value = "cpu")]
    pub(crate) device: DeviceChoice,
    /// The format of weights, activations and cache: f32 or bf16; if not given, bf16 on cuda, else f32
    #[arg(long, value_name = "FORMAT")]
    pub(crate) precision: Option<Precision>,
}
