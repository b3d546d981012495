//! Sockets: listening, accepting, and ending in good order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use terrace_completion::LanguageModel;
use terrace_tokenizer::Tokenizer;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::app::App;
use crate::router::routes;
use crate::{Error, Limits, Result, Settings};

/// After a connection could not be accepted: too many files are open, and some may be closed.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells a server, from any thread, to end.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// One that has not been told yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// No new request is taken; what is being answered may go on for a while.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    async fn begun(&self) {
        // The sender is `self` and lives.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves a model until it is told to shut down; `ready` is told the address once it listens.
///
/// After [`Shutdown::begin`] new requests are refused, those being answered have
/// [`shutdown_time`](Limits::shutdown_time) to end, and the rest is cut off.
///
/// # Errors
///
/// The address is taken, a setting makes no sense, or there is no thread. A model that fails later is
/// no error here: clients are told, and so is who asks `/health`.
pub fn run(
    settings: Settings,
    model: Box<dyn LanguageModel + Send>,
    tokenizer: impl Into<Arc<Tokenizer>>,
    shutdown: &Shutdown,
    ready: impl FnOnce(SocketAddr),
) -> Result<()> {
    let runtime = runtime()?;
    let address = settings.address;
    let listener = runtime
        .block_on(TcpListener::bind(address))
        .map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
    if !address.ip().is_loopback() && settings.api_key.is_none() {
        tracing::warn!(%address, "whoever reaches this address is answered; an API key would ask");
    }
    let shutdown_time = settings.limits.shutdown_time;
    let (app, ended) = App::new(settings, model, tokenizer.into())?;
    let app = Arc::new(app);
    ready(address);
    let left = runtime.block_on(serve(listener, Arc::clone(&app), shutdown));
    drop(app);
    runtime.shutdown_timeout(left);
    // The thread ends with its step, which nothing can cut short.
    if ended.recv_timeout(left.max(PAUSE)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        tracing::warn!(seconds = shutdown_time.as_secs(), "the model's last step goes on");
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(std::thread::available_parallelism().map_or(4, usize::from).max(4))
        .thread_name("serve")
        .enable_all()
        .build()
        .map_err(Error::Thread)
}

/// Accepts until told not to, then waits for what is under way; gives the time that is left.
async fn serve(listener: TcpListener, app: Arc<App>, shutdown: &Shutdown) -> Duration {
    let places = Arc::new(Semaphore::new(app.limits.connections));
    let graceful = GracefulShutdown::new();
    let router = routes(Arc::clone(&app));
    let mut connections = JoinSet::new();
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = shutdown.begun() => break,
        };
        let connection = connection(stream, router.clone(), &app.limits);
        let watched = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    app.stopping.store(true, Ordering::Relaxed);
    let (begun, time) = (Instant::now(), app.limits.shutdown_time);
    if tokio::time::timeout(time, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections are cut off");
        connections.abort_all();
    }
    time.saturating_sub(begun.elapsed())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("it is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Pieces of a stream are small and should not wait for each other.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router, limits: &Limits) -> Connection {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_time)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
