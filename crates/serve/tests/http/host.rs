//! A server in a thread, over a model that can be slow or fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use terrace_completion::{Bigram, Error, Event, LanguageModel, ModelFacts, Request, RequestId};
use terrace_serve::{Settings, Shutdown, run};

use crate::bigram;
use crate::client::{Reply, send};

/// What the model does on the steps after it was given this many requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Panic,
    Error,
    Nothing,
    NotANumber,
}

/// The bigram model, watched.
struct Watched {
    inner: Bigram,
    pending: Arc<AtomicUsize>,
    pause: Duration,
    fault: Option<Fault>,
}

impl LanguageModel for Watched {
    fn facts(&self) -> &ModelFacts {
        self.inner.facts()
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, Error> {
        let id = self.inner.submit(request)?;
        self.pending.store(self.inner.pending(), Ordering::SeqCst);
        Ok(id)
    }

    fn cancel(&mut self, id: RequestId) {
        self.inner.cancel(id);
        self.pending.store(self.inner.pending(), Ordering::SeqCst);
    }

    fn step(&mut self) -> Result<Vec<(RequestId, Event)>, Error> {
        std::thread::sleep(self.pause);
        let mut events = self.inner.step()?;
        match self.fault {
            None => {}
            Some(Fault::Panic) => panic!("a panic that was asked for"),
            Some(Fault::Error) => return Err(Error::Device("out of memory".to_owned())),
            Some(Fault::Nothing) => {
                while self.inner.pending() > 0 {
                    self.inner.step()?;
                }
                events.clear();
            }
            Some(Fault::NotANumber) => {
                for (_, event) in &mut events {
                    if let Event::Token { score, .. } = event {
                        score.log_probability = f32::NAN;
                    }
                }
            }
        }
        self.pending.store(self.inner.pending(), Ordering::SeqCst);
        Ok(events)
    }

    fn pending(&self) -> usize {
        self.inner.pending()
    }
}

/// A running server; it is shut down when this is dropped.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) pending: Arc<AtomicUsize>,
    pub(crate) shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(Duration::ZERO, None, change)
    }

    pub(crate) fn over(
        pause: Duration,
        fault: Option<Fault>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let tokenizer = bigram::tokenizer(home.path());
        let pending = Arc::new(AtomicUsize::new(0));
        let model = Watched { inner: bigram::model(), pending: pending.clone(), pause, fault };
        let mut settings = Settings::new("bigram");
        settings.address.set_port(0);
        change(&mut settings);
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let (ready, address) = mpsc::channel();
        let serve = move || {
            let ready = |address| ready.send(address).unwrap();
            run(settings, Box::new(model), tokenizer, &stop, ready).unwrap();
        };
        let thread = Some(std::thread::spawn(serve));
        Self { address: address.recv().unwrap(), pending, shutdown, thread }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        send(self.address, "GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        send(self.address, "POST", path, "", body.to_string().as_bytes())
    }

    /// A completion that has to succeed.
    pub(crate) fn complete(&self, body: &Value) -> Value {
        let reply = self.post("/v1/completions", body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        reply.json()
    }

    /// A number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").text();
        let line = page
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until something is so, for some seconds.
    pub(crate) fn wait(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what} does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Shuts down and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown.begin();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}
