//! `/v1/completions` and `/v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use terrace_completion::{Completion, Event};

use crate::app::App;
use crate::ask::Ask;
use crate::body::{parse, receive};
use crate::fields::Fields;
use crate::refusal::{Refusal, json_response};
use crate::visit::Visit;
use crate::worker::Answers;
use crate::{reply, stream};

/// Reads fields as the route means them.
type Read = fn(&App, Fields) -> Result<Ask, Refusal>;

pub(crate) async fn completion(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    answer(app, request, Ask::completion).await
}

pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    answer(app, request, Ask::chat).await
}

/// Whoever goes away drops this future, and with it the answers: what is not finished is cancelled.
async fn answer(
    app: Arc<App>,
    request: Request<Body>,
    read: Read,
) -> Result<Response<Body>, Refusal> {
    let end = tokio::time::Instant::now() + app.limits.answer_time;
    let visit = request.extensions().get::<Arc<Visit>>().cloned();
    let body = receive(request, app.limits.body_bytes, app.limits.receive_time).await?;
    let reading = Arc::clone(&app);
    let ask = blocking(&app, move || read(&reading, parse(&body)?)).await??;
    let places = app.desk.places(ask.requests.len())?;
    let answers = app.desk.submit(ask.requests.clone(), places);
    if ask.form.stream {
        return Ok(stream::respond(app, ask, answers, end, visit));
    }
    let late = Refusal::late(app.limits.answer_time.as_secs());
    let collected = tokio::time::timeout_at(end, collect(ask.requests.len(), answers)).await;
    let completions = collected.map_err(|_| late)??;
    let writing = Arc::clone(&app);
    let write = move || {
        let reply = reply::whole(&writing, &ask.form, &ask.requests, &completions);
        json_response(StatusCode::OK, &reply)
    };
    blocking(&app, write).await
}

async fn collect(prompts: usize, mut answers: Answers) -> Result<Vec<Completion>, Refusal> {
    let mut completions = vec![Completion::default(); prompts];
    while let Some(piece) = answers.next().await {
        let (index, event) = piece?;
        let completion = &mut completions[index];
        match event {
            Event::Prompt(scores) => completion.prompt_scores = scores,
            Event::Token { score, text } => {
                completion.tokens.push(score);
                completion.text.push_str(&text);
            }
            Event::Finished { reason, text } => {
                completion.text.push_str(&text);
                completion.finish_reason = reason;
            }
        }
    }
    Ok(completions)
}

/// Runs what takes milliseconds of a core where it keeps no connection waiting.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        app.metrics.handler_failures.add(1);
        tracing::error!(%error, "a request could not be worked on");
        Refusal::internal()
    })
}
