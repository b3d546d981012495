//! What is answered, in the form of OpenAI's replies.

use serde::Serialize;
use serde_json::{Map, Value, json};
use terrace_completion::{Completion, FinishReason, Request, TokenScore};

use crate::app::App;
use crate::ask::Form;
use crate::vocabulary::{Offsets, id_name};

/// What stands for a probability of zero, whose logarithm JSON cannot write; OpenAI's number.
const IMPOSSIBLE: f64 = -9999.0;

/// The probabilities of a completion's tokens, list by list; the first token of a text has none.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Scores {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

/// Tokens of prompts and continuations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) total_tokens: usize,
}

impl Usage {
    pub(crate) fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        Self { prompt_tokens, completion_tokens, total_tokens }
    }
}

/// Writes the parts of one prompt's answer, in their order.
pub(crate) struct Writer<'a> {
    app: &'a App,
    form: &'a Form,
    offsets: Offsets<'a>,
}

impl<'a> Writer<'a> {
    /// Begins behind a prompt, or with it where it is echoed.
    pub(crate) fn new(app: &'a App, form: &'a Form, request: &Request) -> Self {
        let mut writer = Self { app, form, offsets: Offsets::new(&app.vocabulary) };
        if form.logprobs.is_some() && !form.echo && !form.chat {
            for id in &request.prompt {
                writer.offsets.next(*id);
            }
        }
        writer
    }

    /// The scores of an echoed prompt; its first token has none.
    pub(crate) fn prompt(&mut self, prompt: &[u32], scores: &[TokenScore]) -> Option<Scores> {
        self.form.logprobs?;
        let mut written = Scores::default();
        if let Some(first) = prompt.first() {
            written.tokens.push(self.name(*first));
            written.token_logprobs.push(None);
            written.top_logprobs.push(None);
            written.text_offset.push(self.offsets.next(*first));
        }
        self.add(&mut written, scores);
        Some(written)
    }

    /// The scores of generated tokens, in the form of the route.
    pub(crate) fn generated(&mut self, scores: &[TokenScore]) -> Value {
        if self.form.logprobs.is_none() {
            return Value::Null;
        }
        if self.form.chat {
            let content: Vec<Value> = scores.iter().map(|score| self.chat_score(score)).collect();
            return json!({ "content": content });
        }
        let mut written = Scores::default();
        self.add(&mut written, scores);
        json!(written)
    }

    pub(crate) fn add(&mut self, written: &mut Scores, scores: &[TokenScore]) {
        for score in scores {
            written.tokens.push(self.name(score.token));
            written.token_logprobs.push(Some(number(score.log_probability)));
            written.top_logprobs.push(Some(self.alternatives(score)));
            written.text_offset.push(self.offsets.next(score.token));
        }
    }

    /// The likeliest tokens and, as OpenAI does, the token itself. Names are unique; should two be
    /// equal, the larger number stays.
    fn alternatives(&self, score: &TokenScore) -> Map<String, Value> {
        let mut written = Map::new();
        for (token, log_probability) in &score.top {
            let value = number(*log_probability).into();
            written.entry(self.name(*token)).or_insert(value);
        }
        written.entry(self.name(score.token)).or_insert(number(score.log_probability).into());
        written
    }

    fn chat_score(&self, score: &TokenScore) -> Value {
        let one = |token: u32, log_probability: f32| {
            let name = self.name(token);
            let bytes = (!name.starts_with("token_id:")).then(|| name.as_bytes().to_vec());
            json!({"token": name, "logprob": number(log_probability), "bytes": bytes})
        };
        let mut written = one(score.token, score.log_probability);
        let top: Vec<Value> = score.top.iter().map(|(token, log)| one(*token, *log)).collect();
        written["top_logprobs"] = top.into();
        written
    }

    fn name(&self, id: u32) -> String {
        if self.form.ids { id_name(id) } else { self.app.vocabulary.name(id) }
    }
}

/// A reply as a whole.
pub(crate) fn whole(
    app: &App,
    form: &Form,
    requests: &[Request],
    completions: &[Completion],
) -> Value {
    let choices: Vec<Value> = requests
        .iter()
        .zip(completions)
        .enumerate()
        .map(|(index, (request, completion))| choice(app, form, index, request, completion))
        .collect();
    let mut reply = head(app, form);
    reply["choices"] = choices.into();
    reply["usage"] = json!(Usage::new(
        requests.iter().map(|request| request.prompt.len()).sum(),
        completions.iter().map(|completion| completion.tokens.len()).sum(),
    ));
    reply
}

fn choice(
    app: &App,
    form: &Form,
    index: usize,
    request: &Request,
    completion: &Completion,
) -> Value {
    let mut writer = Writer::new(app, form, request);
    let reason = reason(completion.finish_reason);
    if form.chat {
        return json!({
            "index": index,
            "message": {"role": "assistant", "content": completion.text},
            "logprobs": writer.generated(&completion.tokens),
            "finish_reason": reason,
        });
    }
    let mut text = String::new();
    let mut scores = form.logprobs.is_some().then(Scores::default);
    if form.echo {
        text = app.vocabulary.text(&request.prompt);
        scores = writer.prompt(&request.prompt, &completion.prompt_scores);
    }
    text.push_str(&completion.text);
    if let Some(scores) = &mut scores {
        writer.add(scores, &completion.tokens);
    }
    json!({"index": index, "text": text, "logprobs": scores, "finish_reason": reason})
}

/// What all replies and all pieces of a stream begin with.
pub(crate) fn head(app: &App, form: &Form) -> Value {
    let (prefix, object) = match (form.chat, form.stream) {
        (false, _) => ("cmpl", "text_completion"),
        (true, false) => ("chatcmpl", "chat.completion"),
        (true, true) => ("chatcmpl", "chat.completion.chunk"),
    };
    json!({
        "id": app.reply_name(prefix),
        "object": object,
        "created": crate::app::now(),
        "model": app.model,
    })
}

pub(crate) fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Stop => "stop",
    }
}

/// A double is exactly the float it was; clients compare them for equality.
fn number(log_probability: f32) -> f64 {
    if log_probability.is_finite() { f64::from(log_probability) } else { IMPOSSIBLE }
}
