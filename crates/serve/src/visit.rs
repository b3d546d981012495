//! What every request passes on its way in and out: the key, the counts, and what catches panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use futures_util::FutureExt;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// What is counted for a client that went away before its answer; no status of HTTP, but nginx's.
const GONE: u16 = 499;

/// A request from its arrival to the end of its answer, at which it is counted.
pub(crate) struct Visit {
    metrics: Arc<Metrics>,
    route: String,
    since: Instant,
    status: AtomicU16,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let status = StatusCode::from_u16(self.status.load(Ordering::Relaxed));
        self.metrics.request(&self.route, status.expect("a status from a reply"));
        self.metrics.took(&self.route, self.since.elapsed());
    }
}

pub(crate) async fn attend(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    // Paths that are no route are not told apart, or their writers could fill the memory.
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let visit = Arc::new(Visit {
        metrics: Arc::clone(&app.metrics),
        since: Instant::now(),
        status: AtomicU16::new(GONE),
        route,
    });
    request.extensions_mut().insert(Arc::clone(&visit));
    let response = match admit(&app, &visit.route, &request) {
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            app.metrics.handler_failures.add(1);
            Refusal::internal().into_response()
        }),
        Err(refusal) => refusal.into_response(),
    };
    visit.status.store(response.status().as_u16(), Ordering::Relaxed);
    response
}

/// Whether a request goes on to its route; how the server is may be asked by everyone, at any time.
fn admit(app: &App, route: &str, request: &Request) -> Result<(), Refusal> {
    if route == "/health" {
        return Ok(());
    }
    if let Some(key) = &app.api_key {
        let sent = request.headers().get(header::AUTHORIZATION);
        let sent = sent.and_then(|value| bearer(value.as_bytes())).unwrap_or_default();
        // In a time that does not depend on how much of it is right.
        if !bool::from(sent.ct_eq(key.as_bytes())) {
            let message = "no valid API key; send it as `Authorization: Bearer KEY`";
            let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message);
            return Err(refusal.with(header::WWW_AUTHENTICATE, "Bearer"));
        }
    }
    if app.stopping.load(Ordering::Relaxed) && route != "/metrics" {
        return Err(Refusal::stopping());
    }
    Ok(())
}

/// The key behind `Bearer`, in whatever case that is written.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}
