//! The routes, and what they answer that is not a completion.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::json;
use terrace_completion::LanguageModel;
use terrace_tokenizer::Tokenizer;

use crate::app::App;
use crate::body::{parse, receive};
use crate::complete::{blocking, chat, completion};
use crate::fields::{Detokenize, Tokenize};
use crate::refusal::{Refusal, json_response};
use crate::visit::attend;
use crate::{Result, Settings};

type Reply = Result<Response<Body>, Refusal>;

/// The server as a service, for those who have a socket of their own; its address is not used.
///
/// The model has a thread that ends some time after the router is gone.
///
/// # Errors
///
/// A setting makes no sense, or there is no thread.
pub fn router(
    settings: Settings,
    model: Box<dyn LanguageModel + Send>,
    tokenizer: impl Into<Arc<Tokenizer>>,
) -> Result<Router> {
    let (app, _) = App::new(settings, model, tokenizer.into())?;
    Ok(routes(Arc::new(app)))
}

pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/completions", post(completion))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/tokenizer_info", get(tokenizer_info))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(wrong_method)
        .fallback(wrong_route)
        .layer(from_fn_with_state(Arc::clone(&app), attend))
        .with_state(app)
}

async fn models(State(app): State<Arc<App>>) -> Response<Body> {
    let model = json!({
        "id": app.model,
        "object": "model",
        "created": app.started,
        "owned_by": "terrace",
        "max_model_len": app.facts.context_length,
    });
    json_response(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

async fn tokenize(State(app): State<Arc<App>>, request: Request<Body>) -> Reply {
    let body = receive(request, app.limits.body_bytes, app.limits.receive_time).await?;
    let work = Arc::clone(&app);
    blocking(&app, move || {
        let fields: Tokenize = parse(&body)?;
        let Some(text) = fields.prompt else {
            return Err(Refusal::field("prompt", "`prompt` is missing; a string is expected"));
        };
        let mut tokens = work.encode("prompt", &text)?;
        let bos = work.texts.bos_token.as_deref().filter(|_| work.texts.add_bos);
        let bos = bos.and_then(|token| work.vocabulary.tokenizer().token_id(token));
        if let Some(bos) = bos.filter(|_| fields.add_special_tokens == Some(true)) {
            tokens.insert(0, bos);
        }
        let count = tokens.len();
        let length = work.facts.context_length;
        let reply = json!({"tokens": tokens, "count": count, "max_model_len": length});
        Ok(json_response(StatusCode::OK, &reply))
    })
    .await?
}

async fn detokenize(State(app): State<Arc<App>>, request: Request<Body>) -> Reply {
    let body = receive(request, app.limits.body_bytes, app.limits.receive_time).await?;
    let work = Arc::clone(&app);
    blocking(&app, move || {
        let fields: Detokenize = parse(&body)?;
        let Some(tokens) = fields.tokens else {
            let message = "`tokens` is missing; a list of token ids is expected";
            return Err(Refusal::field("tokens", message));
        };
        let text = work.vocabulary.tokenizer().decode(&tokens);
        let text = text.map_err(|error| Refusal::field("tokens", error.to_string()))?;
        Ok(json_response(StatusCode::OK, &json!({ "prompt": text })))
    })
    .await?
}

async fn tokenizer_info(State(app): State<Arc<App>>) -> Response<Body> {
    let texts = &app.texts;
    let info = json!({
        "bos_token": texts.bos_token,
        "eos_token": texts.eos_token,
        "pad_token": texts.pad_token,
        "add_bos_token": texts.add_bos,
        "chat_template": texts.chat_template,
        "vocab_size": app.vocabulary.tokenizer().vocab_size(),
    });
    json_response(StatusCode::OK, &info)
}

async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    let (status, word) = if !app.metrics.healthy() {
        (StatusCode::SERVICE_UNAVAILABLE, "the model failed")
    } else if app.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down")
    } else {
        (StatusCode::OK, "ok")
    };
    json_response(status, &json!({ "status": word }))
}

async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let page = app.metrics.render(app.desk.length(), app.desk.limit());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn wrong_route(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("there is no {path}; completions are at /v1/completions");
    Refusal::new(StatusCode::NOT_FOUND, "unknown_url", message)
}

async fn wrong_method(request: Request<Body>) -> Refusal {
    let message = format!("{} is not a method of {}", request.method(), request.uri().path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
