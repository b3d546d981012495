//! What a client is told that is not answered, in the form of OpenAI's errors.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use terrace_completion::Error;

/// A request that is not answered, and why.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// A short name for programs.
    code: &'static str,
    /// The field at fault.
    field: Option<String>,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, field: None, message: message.into(), headers: Vec::new() }
    }

    /// The request has a field that makes no sense.
    pub(crate) fn field(name: &str, message: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::BAD_REQUEST, "invalid_value", message);
        Self { field: Some(name.to_owned()), ..refusal }
    }

    /// The server is at its limit.
    pub(crate) fn full(limit: usize) -> Self {
        let message = format!(
            "{limit} prompts are waiting or being worked on, which is the limit; try again later"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message).retry_after("1")
    }

    /// The server is about to end.
    pub(crate) fn stopping() -> Self {
        let message = "the server is shutting down; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message).retry_after("5")
    }

    /// The answer takes longer than it may.
    pub(crate) fn late(seconds: u64) -> Self {
        let message = format!(
            "no whole answer within {seconds} seconds; ask for fewer tokens, or raise the \
             server's limit"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    /// The model gave out.
    pub(crate) fn failed(reason: &str) -> Self {
        let message = format!("the model failed: {reason}; restart the server");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "model_failed", message)
    }

    /// The server itself is at fault.
    pub(crate) fn internal() -> Self {
        let message = "the server is at fault; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    fn retry_after(self, seconds: &'static str) -> Self {
        self.with(header::RETRY_AFTER, seconds)
    }

    /// As it is written into a body or a stream.
    pub(crate) fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {
            "message": self.message,
            "type": kind,
            "param": self.field,
            "code": self.code,
        }})
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Device(reason) => Self::failed(&reason),
            Error::TooLong { .. } => {
                let refusal = Self::field("prompt", message);
                Self { code: "context_length_exceeded", ..refusal }
            }
            Error::Empty | Error::UnknownToken { .. } => Self::field("prompt", message),
            Error::Setting(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_value", message),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let mut response = json_response(self.status, &self.body());
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A reply of JSON.
pub(crate) fn json_response(status: StatusCode, body: &impl serde::Serialize) -> Response<Body> {
    let text = serde_json::to_vec(body).expect("replies have text keys and finite numbers");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
