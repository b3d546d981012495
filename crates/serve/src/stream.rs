//! Answers as they come, as server-sent events.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Response;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use futures_util::FutureExt;
use serde_json::{Value, json};
use terrace_completion::{Event, Request};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::app::App;
use crate::ask::{Ask, Form};
use crate::refusal::Refusal;
use crate::reply::{self, Usage, Writer};
use crate::visit::Visit;
use crate::worker::Answers;

/// Pieces that wait for a slow client.
const AHEAD: usize = 16;

/// A reply that goes on until the answers end, the time is over, or the client is gone.
pub(crate) fn respond(
    app: Arc<App>,
    ask: Ask,
    answers: Answers,
    end: Instant,
    visit: Option<Arc<Visit>>,
) -> Response<Body> {
    let (out, lines) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let late = || Refusal::late(app.limits.answer_time.as_secs());
        let writing = AssertUnwindSafe(write(&app, &ask, answers, &out)).catch_unwind();
        let written = tokio::select! {
            written = tokio::time::timeout_at(end, writing) => written,
            () = out.closed() => return,
        };
        let refusal = match written {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(refusal))) => Some(refusal),
            Ok(Err(_panic)) => {
                app.metrics.handler_failures.add(1);
                Some(Refusal::internal())
            }
            Err(_) => Some(late()),
        };
        let last = refusal.map_or("[DONE]".to_owned(), |refusal| refusal.body().to_string());
        let _ = out.send(last).await;
        // The visit ends with the last line.
        drop(visit);
    });
    let lines = futures_util::stream::unfold(lines, |mut lines| async move {
        let line: String = lines.recv().await?;
        Some((Ok::<_, Infallible>(Line::default().data(line)), lines))
    });
    Sse::new(lines).keep_alive(KeepAlive::default()).into_response()
}

/// The client is gone; nobody reads why.
struct Gone;

impl From<Gone> for Refusal {
    fn from(_: Gone) -> Self {
        Refusal::internal()
    }
}

/// What the pieces of one reply share.
struct Pieces<'a> {
    head: Value,
    form: &'a Form,
    out: &'a mpsc::Sender<String>,
}

impl Pieces<'_> {
    async fn send(
        &self,
        index: usize,
        text: &str,
        logprobs: Value,
        reason: Option<&str>,
    ) -> Result<(), Gone> {
        let choice = if self.form.chat {
            let delta = if reason.is_some() && text.is_empty() {
                json!({})
            } else {
                json!({ "content": text })
            };
            json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason})
        } else {
            json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
        };
        self.choices(json!([choice]), None).await
    }

    async fn choices(&self, choices: Value, usage: Option<Usage>) -> Result<(), Gone> {
        let mut piece = self.head.clone();
        piece["choices"] = choices;
        if let Some(usage) = usage {
            piece["usage"] = json!(usage);
        }
        self.out.send(piece.to_string()).await.map_err(|_| Gone)
    }
}

async fn write(
    app: &App,
    ask: &Ask,
    mut answers: Answers,
    out: &mpsc::Sender<String>,
) -> Result<(), Refusal> {
    let Ask { requests, form } = ask;
    let pieces = Pieces { head: reply::head(app, form), form, out };
    let mut writers: Vec<Writer<'_>> =
        requests.iter().map(|request| Writer::new(app, form, request)).collect();
    begin(app, requests, &pieces).await?;
    let mut generated = 0;
    while let Some(piece) = answers.next().await {
        let (index, event) = piece.map_err(Refusal::from)?;
        match event {
            Event::Prompt(scores) => {
                let prompt = &requests[index].prompt;
                let text = app.vocabulary.text(prompt);
                let scores = json!(writers[index].prompt(prompt, &scores));
                pieces.send(index, &text, scores, None).await?;
            }
            Event::Token { score, text } => {
                generated += 1;
                let scores = writers[index].generated(std::slice::from_ref(&score));
                if !(text.is_empty() && scores.is_null()) {
                    pieces.send(index, &text, scores, None).await?;
                }
            }
            Event::Finished { reason, text } => {
                let reason = reply::reason(reason);
                pieces.send(index, &text, Value::Null, Some(reason)).await?;
            }
        }
    }
    if form.include_usage {
        let prompts = requests.iter().map(|request| request.prompt.len()).sum();
        pieces.choices(json!([]), Some(Usage::new(prompts, generated))).await?;
    }
    Ok(())
}

/// What can be said before the model says anything.
async fn begin(app: &App, requests: &[Request], pieces: &Pieces<'_>) -> Result<(), Gone> {
    let form = pieces.form;
    for (index, request) in requests.iter().enumerate() {
        if form.chat {
            let delta = json!({"role": "assistant", "content": ""});
            let choice = json!({"index": index, "delta": delta, "logprobs": null,
                                "finish_reason": null});
            pieces.choices(json!([choice]), None).await?;
        } else if form.echo && form.logprobs.is_none() {
            let text = app.vocabulary.text(&request.prompt);
            pieces.send(index, &text, Value::Null, None).await?;
        }
    }
    Ok(())
}
