//! From the fields of a request to what the model is asked.

use std::hash::{BuildHasher, Hasher, RandomState};

use axum::http::StatusCode;
use terrace_completion::{Request, Sampling, ScorePrompt};

use crate::app::App;
use crate::fields::{Fields, Logprobs, Prompt, Prompts, Stops};
use crate::refusal::Refusal;

/// What `/v1/completions` generates when it is not told how much.
const DEFAULT_TOKENS: usize = 16;

/// What a client asks, ready for the model.
#[derive(Debug)]
pub(crate) struct Ask {
    /// One for each prompt, in order.
    pub(crate) requests: Vec<Request>,
    pub(crate) form: Form,
}

/// How the answer is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) chat: bool,
    pub(crate) echo: bool,
    /// Alternatives told with each token; none if no probability is.
    pub(crate) logprobs: Option<usize>,
    /// Write tokens as their ids.
    pub(crate) ids: bool,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

impl Ask {
    /// Reads a request of `/v1/completions`.
    ///
    /// # Errors
    ///
    /// It cannot be answered: something is missing, too much, or not supported.
    pub(crate) fn completion(app: &App, mut fields: Fields) -> Result<Self, Refusal> {
        common(app, &fields)?;
        let Some(Prompts(prompts)) = fields.prompt.take() else {
            return Err(Refusal::field("prompt", "`prompt` is missing"));
        };
        if prompts.is_empty() {
            return Err(Refusal::field("prompt", "`prompt` is an empty list"));
        }
        let logprobs = match fields.logprobs {
            None | Some(Logprobs::Whether(false)) => None,
            Some(Logprobs::Whether(true)) => Some(1),
            Some(Logprobs::Count(count)) => Some(count),
        };
        let form = form(app, &fields, false, logprobs)?;
        let new_tokens = fields.max_tokens.unwrap_or(DEFAULT_TOKENS);
        // Before a text is encoded: a list that is too long costs nothing.
        drop(app.desk.places(prompts.len())?);
        let prompts = prompts.into_iter().map(|prompt| match prompt {
            Prompt::Ids(ids) => Ok(ids),
            Prompt::Text(text) => app.encode("prompt", &text),
        });
        let prompts = prompts.collect::<Result<Vec<_>, Refusal>>()?;
        Self::new(app, &fields, form, prompts, new_tokens)
    }

    /// Reads a request of `/v1/chat/completions`.
    ///
    /// # Errors
    ///
    /// There is no chat template, or the request cannot be answered.
    pub(crate) fn chat(app: &App, mut fields: Fields) -> Result<Self, Refusal> {
        let Some(template) = &app.template else {
            let message = "the model has no chat template; use /v1/completions";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "no_chat_template", message));
        };
        common(app, &fields)?;
        let messages = fields.messages.take().unwrap_or_default();
        if messages.is_empty() {
            return Err(Refusal::field("messages", "`messages` is missing or empty"));
        }
        let alternatives = fields.top_logprobs.unwrap_or(0);
        let logprobs = match fields.logprobs {
            None | Some(Logprobs::Whether(false)) => None,
            Some(Logprobs::Whether(true)) => Some(alternatives),
            Some(Logprobs::Count(count)) => Some(count.max(alternatives)),
        };
        let form = form(app, &fields, true, logprobs)?;
        let text = template.write(&messages, &app.texts)?;
        let prompt = app.encode("messages", &text)?;
        let rest = app.facts.context_length.saturating_sub(prompt.len());
        let rest = rest.min(app.limits.tokens.saturating_sub(prompt.len())).max(1);
        let new_tokens = fields.max_completion_tokens.or(fields.max_tokens).unwrap_or(rest);
        Self::new(app, &fields, form, vec![prompt], new_tokens)
    }

    fn new(
        app: &App,
        fields: &Fields,
        form: Form,
        prompts: Vec<Vec<u32>>,
        max_new_tokens: usize,
    ) -> Result<Self, Refusal> {
        let tokens = prompts.iter().fold(0_usize, |sum, prompt| {
            sum.saturating_add(prompt.len()).saturating_add(max_new_tokens)
        });
        // A prompt that is too long by itself is told so first.
        let limit = app.limits.tokens.max(app.facts.context_length);
        if tokens > limit && prompts.len() > 1 {
            let message = format!(
                "prompts and continuations of {tokens} tokens in one request, and the limit is \
                 {limit}; send fewer prompts at once"
            );
            return Err(Refusal::field("prompt", message));
        }
        let Stops(stop) = fields.stop.clone().unwrap_or_default();
        let scored = form.echo && form.logprobs.is_some();
        let request = |prompt| -> Result<Request, Refusal> {
            Ok(Request {
                prompt,
                max_new_tokens,
                sampling: sampling(fields)?,
                stop: stop.clone(),
                ignore_end_of_text: fields.ignore_eos.unwrap_or(false),
                score_prompt: if scored { ScorePrompt::From(1) } else { ScorePrompt::No },
                top: form.logprobs.unwrap_or(0),
            })
        };
        let requests = prompts.into_iter().map(request).collect::<Result<Vec<_>, _>>()?;
        requests.iter().try_for_each(|request| request.check(&app.facts))?;
        Ok(Self { requests, form })
    }
}

/// What both kinds of completion refuse.
fn common(app: &App, fields: &Fields) -> Result<(), Refusal> {
    if let Some(model) = fields.model.as_deref().filter(|model| *model != app.model) {
        let message = format!("there is no model `{model}`; this server has `{}`", app.model);
        return Err(Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message));
    }
    let unsupported = [
        ("n", fields.n.is_some_and(|n| n != 1), "only n = 1 is supported; send the prompt n times"),
        ("best_of", fields.best_of.is_some_and(|n| n != 1), "only best_of = 1 is supported"),
        ("suffix", fields.suffix.as_ref().is_some_and(|s| !s.is_empty()), "not supported"),
        ("presence_penalty", fields.presence_penalty.is_some_and(|p| p != 0.0), "not supported"),
        ("frequency_penalty", fields.frequency_penalty.is_some_and(|p| p != 0.0), "not supported"),
        ("logit_bias", fields.logit_bias.as_ref().is_some_and(|b| !b.is_empty()), "not supported"),
    ];
    match unsupported.into_iter().find(|(_, asked, _)| *asked) {
        Some((name, _, reason)) => Err(Refusal::field(name, format!("`{name}`: {reason}"))),
        None => Ok(()),
    }
}

fn form(app: &App, fields: &Fields, chat: bool, logprobs: Option<usize>) -> Result<Form, Refusal> {
    let most = app.limits.top;
    if let Some(count) = logprobs.filter(|count| *count > most) {
        let name = if chat { "top_logprobs" } else { "logprobs" };
        let message = format!("{count} alternatives for each token, and the limit is {most}");
        return Err(Refusal::field(name, message));
    }
    let options = fields.stream_options.unwrap_or_default();
    Ok(Form {
        chat,
        echo: fields.echo.unwrap_or(false) && !chat,
        logprobs,
        ids: fields.return_tokens_as_token_ids.unwrap_or(false),
        stream: fields.stream.unwrap_or(false),
        include_usage: options.include_usage.unwrap_or(false),
    })
}

/// The chooser of one prompt's tokens; without a seed each prompt gets one of its own.
fn sampling(fields: &Fields) -> Result<Sampling, Refusal> {
    let temperature = fields.temperature.unwrap_or(1.0);
    let top_p = fields.top_p.unwrap_or(1.0);
    if !(temperature.is_finite() && temperature >= 0.0) {
        let message = format!("temperature {temperature}: expected 0 (greedy) or more");
        return Err(Refusal::field("temperature", message));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        let message = format!("top_p {top_p}: expected more than 0 and at most 1");
        return Err(Refusal::field("top_p", message));
    }
    // What rounds to zero is zero, and what is too large for the model's number is very large.
    let temperature = (temperature as f32).min(f32::MAX);
    if temperature == 0.0 {
        return Ok(Sampling::Greedy);
    }
    let top_p = (top_p as f32).max(f32::MIN_POSITIVE);
    // The bits of a negative seed are as good as those of any other.
    let seed = fields.seed.map_or_else(fresh_seed, |seed| seed as u64);
    Ok(Sampling::Nucleus { temperature, top_p, seed })
}

/// A seed that nobody chose; the standard library's hash keys are random.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
