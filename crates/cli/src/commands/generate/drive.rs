//! Asking an engine for everything, with the time that it takes.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use serde::Serialize;
use terrace_completion::{Completion, Error, Event, LanguageModel, Request};
use terrace_infer::Engine;

/// How fast it went.
///
/// # Units
///
/// Tokens per second; the prefill's over the steps that computed tokens of prompts, the decode's over
/// the other steps.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Speed {
    /// Tokens of all prompts.
    prompt_tokens: u64,
    /// Those of them that were not computed again for another prompt.
    shared_tokens: u64,
    new_tokens: u64,
    prefill_tokens_per_second: Option<f64>,
    decode_tokens_per_second: Option<f64>,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
        write!(
            f,
            "{} tokens of prompts ({} shared), {} tokens/s; decode {} tokens, {} tokens/s",
            self.prompt_tokens,
            self.shared_tokens,
            rate(self.prefill_tokens_per_second),
            self.new_tokens,
            rate(self.decode_tokens_per_second),
        )
    }
}

/// Answers all requests; the error names the one that was refused.
pub(super) fn drive(
    engine: &mut Engine,
    requests: Vec<Request>,
    mut each: impl FnMut(usize, &Event),
) -> Result<(Vec<Completion>, Speed), (Option<usize>, Error)> {
    let mut places = HashMap::new();
    let mut answers = vec![Completion::default(); requests.len()];
    for (index, request) in requests.into_iter().enumerate() {
        let id = engine.submit(request).map_err(|error| (Some(index), error))?;
        places.insert(id, index);
    }
    let (mut prefill, mut decode) = ((0, 0.0), (0, 0.0));
    while engine.pending() > 0 {
        let (before, started) = (engine.counts(), Instant::now());
        let events = engine.step().map_err(|error| (None, error))?;
        let (after, seconds) = (engine.counts(), started.elapsed().as_secs_f64());
        if after.prefilled > before.prefilled {
            prefill = (prefill.0 + after.prefilled - before.prefilled, prefill.1 + seconds);
        } else {
            decode = (decode.0 + after.generated - before.generated, decode.1 + seconds);
        }
        for (id, event) in events {
            let place = places[&id];
            each(place, &event);
            answers[place].take(event);
        }
    }
    let rate = |(tokens, seconds): (u64, f64)| (tokens > 0).then(|| tokens as f64 / seconds);
    let counts = engine.counts();
    let speed = Speed {
        prompt_tokens: counts.prefilled + counts.shared,
        shared_tokens: counts.shared,
        new_tokens: counts.generated,
        prefill_tokens_per_second: rate(prefill),
        decode_tokens_per_second: rate(decode),
    };
    Ok((answers, speed))
}
