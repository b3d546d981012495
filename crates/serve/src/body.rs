//! From the bytes of a request to its fields.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// So much of an oversized body is read and thrown away, so that its sender gets to read why.
const DISCARDED: usize = 64 << 20;

/// The body of a request.
///
/// # Errors
///
/// It is too large, too slow, or cut off.
pub(crate) async fn receive(
    request: Request<Body>,
    limit: usize,
    time: Duration,
) -> Result<Bytes, Refusal> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let receiving = read(request.into_body(), limit, announced);
    tokio::time::timeout(time, receiving).await.unwrap_or_else(|_| {
        let message = format!("the body did not arrive within {} seconds", time.as_secs());
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
            .with(header::CONNECTION, "close"))
    })
}

async fn read(body: Body, limit: usize, announced: Option<u64>) -> Result<Bytes, Refusal> {
    let mut stream = body.into_data_stream();
    let mut received = 0;
    let mut kept = Vec::new();
    if announced.is_some_and(|length| length > (limit + DISCARDED) as u64) {
        return Err(too_large(limit));
    }
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| {
            let message = format!("the body was cut off: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_body", message)
        })?;
        received += piece.len();
        if received > limit + DISCARDED {
            break;
        }
        if received <= limit {
            kept.extend_from_slice(&piece);
        } else {
            kept = Vec::new();
        }
    }
    if received > limit { Err(too_large(limit)) } else { Ok(kept.into()) }
}

fn too_large(limit: usize) -> Refusal {
    let message = format!("the body is larger than {limit} bytes; send fewer prompts at once");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        .with(header::CONNECTION, "close")
}

/// The fields of a body; unknown ones are passed over without being kept.
///
/// # Errors
///
/// It is no JSON object, or a field is of the wrong kind: the message names field, line and column.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let malformed =
        |message: String| Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    // A list, too, would be taken for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed("the body is not a JSON object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let fields = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let fault = error.into_inner();
        if fault.is_data() && field != "." {
            Refusal::field(&field, format!("`{field}`: {fault}"))
        } else {
            malformed(format!("the body is not JSON: {fault}"))
        }
    })?;
    json.end().map_err(|error| malformed(format!("the body goes on behind its JSON: {error}")))?;
    Ok(fields)
}
