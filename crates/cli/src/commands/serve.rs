//! `terrace serve`: a model behind OpenAI's protocol.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use terrace_serve::{Settings, Shutdown, Texts};
use terrace_train::StopFlag;

use super::model::{self, Room};
use super::training::signals;
use crate::args::ServeArgs;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;

/// How soon a signal is noticed.
const NOTICE: Duration = Duration::from_millis(50);

/// Serves the model until a signal comes.
pub(crate) fn run(args: &ServeArgs, context: &Context) -> Result<ExitCode, CliError> {
    let settings = settings(args)?;
    let device = device::open(args.device, context)?;
    let precision = device::precision(args.precision, args.device, &device)?;
    let found = model::locate(&args.model)?;
    let (slots, length) = (usize::from(args.batch), found.context_length(args.context)?);
    let needed = Room { device: args.device, precision, slots, length };
    let (engine, tokenizer) = found.engine(&device, needed, args.batch_invariant, context)?;
    let stop = StopFlag::default();
    signals::arm(&stop).map_err(CliError::environment)?;
    let shutdown = Shutdown::new();
    let begin = shutdown.clone();
    thread::spawn(move || {
        while !stop.requested() {
            thread::sleep(NOTICE);
        }
        begin.begin();
    });
    let name = settings.model.clone();
    let ready = |address: SocketAddr| {
        context.note(&format!("{name} is served at http://{address}/v1"));
    };
    terrace_serve::run(settings, Box::new(engine), tokenizer, &shutdown, ready).map_err(refused)?;
    context.note("the server has ended");
    Ok(ExitCode::Done)
}

fn settings(args: &ServeArgs) -> Result<Settings, CliError> {
    let path = std::path::absolute(&args.model).unwrap_or_else(|_| args.model.clone());
    let folder = path.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
    let name = args.name.clone().unwrap_or_else(|| folder.into_owned());
    let api_key = args.api_key.as_deref().map(key).transpose()?;
    Ok(Settings {
        address: SocketAddr::new(args.host, args.port),
        api_key,
        texts: texts(&args.model)?,
        ..Settings::new(&name)
    })
}

fn key(path: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| CliError::input(e).at(path))?;
    Ok(text.trim().to_owned())
}

/// What the folder says of special tokens and chat; a run's checkpoint says nothing.
fn texts(model: &Path) -> Result<Texts, CliError> {
    let read = |name: &str| std::fs::read_to_string(model.join(name)).ok();
    let mut texts = match read("tokenizer_config.json") {
        Some(text) => Texts::parse(&text).map_err(refused)?,
        None => Texts::default(),
    };
    texts.chat_template = read("chat_template.jinja").or(texts.chat_template);
    Ok(texts)
}

fn refused(error: terrace_serve::Error) -> CliError {
    match error {
        terrace_serve::Error::Listen { .. } | terrace_serve::Error::Thread(_) => {
            CliError::environment(error)
        }
        _ => CliError::input(error),
    }
}
