//! `terrace generate`: continuations of a prompt or of a file of prompts.

mod drive;
mod prompts;

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use terrace_base::fs::AtomicFile;
use terrace_completion::{Completion, Error, Event, Request, Sampling};
use terrace_infer::Engine;
use terrace_tokenizer::Tokenizer;

use self::drive::{Speed, drive};
use self::prompts::{Prompt, read};
use super::model::{self, Room};
use crate::args::GenerateArgs;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::{Progress, Unit};

/// The tokens of a continuation where nobody says how many.
const NEW_TOKENS: usize = 128;

/// One answer.
#[derive(Serialize)]
struct Answer<'a> {
    prompt: &'a str,
    text: &'a str,
    tokens: Vec<u32>,
    finish_reason: terrace_completion::FinishReason,
}

/// The answer to one prompt, for programs.
#[derive(Serialize)]
struct Single<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
    speed: Speed,
}

/// What is told of a file's answers.
#[derive(Serialize)]
struct Summary<'a> {
    prompts: usize,
    output: &'a Path,
    speed: Speed,
}

/// Continues what was given.
pub(crate) fn run(args: &GenerateArgs, context: &Context) -> Result<ExitCode, CliError> {
    let prompts = match (&args.prompt, &args.input) {
        (Some(text), _) => vec![Prompt { text: text.clone(), place: None }],
        (None, Some(file)) => read(file)?,
        (None, None) => unreachable!("one of them is required"),
    };
    if context.json && args.input.is_some() && args.output.is_none() {
        let message = "with --json the answers to a file need a file of their own";
        return Err(CliError::input(message).with_help("add --output FILE"));
    }
    let output = args.output.as_deref().map(create).transpose()?;
    let device = device::open(args.device, context)?;
    let precision = device::precision(args.precision, args.device, &device)?;
    let found = model::locate(&args.model)?;
    let room = found.architecture.max_position_embeddings as usize;
    let requests = requests(args, &prompts, &found.tokenizer, room)?;
    let longest =
        requests.iter().map(|request| request.prompt.len().saturating_add(request.max_new_tokens));
    let slots = usize::from(args.batch).min(requests.len()).max(1);
    let length = longest.max().unwrap_or(1).clamp(1, room);
    let needed = Room { device: args.device, precision, slots, length };
    let (mut engine, _) = found.engine(&device, needed, args.batch_invariant, context)?;
    if args.prompt.is_some() {
        single(&mut engine, &prompts[0], requests, context)
    } else {
        file(output, &mut engine, &prompts, requests, context)
    }
}

/// Answers one prompt, as the text comes.
fn single(
    engine: &mut Engine,
    prompt: &Prompt,
    requests: Vec<Request>,
    context: &Context,
) -> Result<ExitCode, CliError> {
    let streams = !context.json;
    let (answers, speed) = drive(engine, requests, |_, event| {
        if let (true, Event::Token { text, .. } | Event::Finished { text, .. }) = (streams, event) {
            context.stream(text);
        }
    })
    .map_err(|(_, error)| refused(prompt, error))?;
    if streams {
        context.stream("\n");
        context.note(&speed.to_string());
    } else {
        context.data(&Single { answer: answer(prompt, &answers[0]), speed });
    }
    Ok(ExitCode::Done)
}

/// Answers a file.
fn file(
    output: Option<(AtomicFile, &Path)>,
    engine: &mut Engine,
    prompts: &[Prompt],
    requests: Vec<Request>,
    context: &Context,
) -> Result<ExitCode, CliError> {
    let progress = Progress::start(context, "generating", Unit::Count, Some(prompts.len() as u64));
    let (mut done, mut tokens) = (0, 0);
    let (answers, speed) = drive(engine, requests, |_, event| {
        match event {
            Event::Token { .. } => tokens += 1,
            Event::Finished { .. } => done += 1,
            Event::Prompt(_) => {}
        }
        progress.update(done, || format!("{tokens} tokens"));
    })
    .map_err(|(index, error)| refused(&prompts[index.unwrap_or(0)], error))?;
    progress.finish();
    let mut lines = String::new();
    for (prompt, completion) in prompts.iter().zip(&answers) {
        let line = serde_json::to_string(&answer(prompt, completion)).expect("plain data");
        lines.push_str(&line);
        lines.push('\n');
    }
    let Some((mut file, output)) = output else {
        context.stream(&lines);
        context.note(&speed.to_string());
        return Ok(ExitCode::Done);
    };
    let written = file.write_all(lines.as_bytes()).and_then(|()| file.commit());
    written.map_err(|error| unwritable(error, output))?;
    let summary = Summary { prompts: prompts.len(), output, speed };
    context
        .answer(&summary, || format!("{}: {} answers\n{speed}", output.display(), prompts.len()));
    Ok(ExitCode::Done)
}

/// Opened before anything is computed, so that nothing is computed for a file that cannot be.
fn create(path: &Path) -> Result<(AtomicFile, &Path), CliError> {
    let file = AtomicFile::create(path).map_err(|error| unwritable(error, path))?;
    Ok((file, path))
}

fn unwritable(error: io::Error, path: &Path) -> CliError {
    CliError::unwritable(path, error).with_help("--output names a file in a folder that exists")
}

fn answer<'a>(prompt: &'a Prompt, completion: &'a Completion) -> Answer<'a> {
    Answer {
        prompt: &prompt.text,
        text: &completion.text,
        tokens: completion.tokens.iter().map(|score| score.token).collect(),
        finish_reason: completion.finish_reason,
    }
}

fn requests(
    args: &GenerateArgs,
    prompts: &[Prompt],
    tokenizer: &Tokenizer,
    room: usize,
) -> Result<Vec<Request>, CliError> {
    let sampling = if args.temperature == 0.0 {
        Sampling::Greedy
    } else {
        let (temperature, top_p, seed) = (args.temperature, args.top_p, args.seed);
        Sampling::Nucleus { temperature, top_p, seed }
    };
    let stop: Vec<String> = args.stop.iter().map(|stop| unescaped(stop)).collect();
    let request = |prompt: &Prompt| {
        let tokens = tokenizer.encode(&prompt.text).map_err(CliError::input)?;
        let left = room.saturating_sub(tokens.len());
        if left == 0 {
            let (prompt_tokens, new) = (tokens.len(), args.max_new_tokens.unwrap_or(1));
            let error = Error::TooLong { prompt: prompt_tokens, new, context: room };
            return Err(refused(prompt, error));
        }
        Ok(Request {
            max_new_tokens: args.max_new_tokens.unwrap_or(NEW_TOKENS.min(left)),
            sampling,
            stop: stop.clone(),
            prompt: tokens,
            ..Request::default()
        })
    };
    prompts.iter().map(request).collect()
}

/// A stop as it is meant: `\n` is a line's end, and `\\` a backslash.
fn unescaped(text: &str) -> String {
    let mut meant = String::new();
    let mut rest = text.chars().peekable();
    while let Some(sign) = rest.next() {
        match (sign, rest.peek()) {
            ('\\', Some('n')) => meant.push('\n'),
            ('\\', Some('\\')) => meant.push('\\'),
            _ => {
                meant.push(sign);
                continue;
            }
        }
        rest.next();
    }
    meant
}

/// A request that the model does not take is the user's; what fails later is the device's.
fn refused(prompt: &Prompt, error: Error) -> CliError {
    let message = match &prompt.place {
        Some(place) => format!("{place}: {error}"),
        None => error.to_string(),
    };
    match error {
        Error::Device(_) => CliError::device(error.to_string()),
        Error::TooLong { prompt, context, .. } if prompt >= context => {
            CliError::input(message).with_help("give a shorter prompt")
        }
        Error::TooLong { .. } => {
            CliError::input(message).with_help("ask for fewer tokens with --max-new-tokens")
        }
        _ => CliError::input(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_can_hold_lines_and_backslashes() {
        let meant = ["a\\n\\nb", "\\\\nabla", "\\d\\", "数"].map(unescaped);
        assert_eq!(meant, ["a\n\nb", "\\nabla", "\\d\\", "数"]);
    }
}
