//! What the server is told before it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::{Error, Result, Texts};

/// Where the server listens, what it calls its model, and whom it answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Loopback unless told otherwise; port 0 takes a free one.
    pub address: SocketAddr,
    /// The model's name in requests and replies.
    pub model: String,
    /// What clients have to send as `Authorization: Bearer KEY`; without it everyone is answered.
    pub api_key: Option<String>,
    /// The special tokens and the chat template.
    pub texts: Texts,
    /// What is too much.
    pub limits: Limits,
}

impl Settings {
    /// A model of this name on port 8000 of loopback, without a key or a chat template.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            model: model.to_owned(),
            api_key: None,
            texts: Texts::default(),
            limits: Limits::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let limits = &self.limits;
        let counts = [
            ("limits.body_bytes", limits.body_bytes),
            ("limits.tokens", limits.tokens),
            ("limits.queue", limits.queue),
            ("limits.connections", limits.connections),
        ];
        if let Some((name, found)) = counts.into_iter().find(|(_, n)| *n == 0 || *n > 1 << 28) {
            let expected = "between 1 and 268,435,456";
            return Err(Error::Setting { name, found: found.to_string(), expected });
        }
        if self.api_key.as_deref().is_some_and(|key| key.trim().is_empty()) {
            let expected = "a text that is hard to guess, or no key at all";
            return Err(Error::Setting { name: "api_key", found: "empty".to_owned(), expected });
        }
        Ok(())
    }
}

/// What a client may ask at most, and how long things may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Tokens of one request, its prompts and what is to be generated together.
    pub tokens: usize,
    /// Prompts that are waiting or being worked on, of all clients; further ones are refused for now.
    pub queue: usize,
    /// Alternatives that are told for each token.
    pub top: usize,
    /// Open connections; further ones wait until one is closed.
    pub connections: usize,
    /// From a request's arrival to the end of its answer.
    pub answer_time: Duration,
    /// For the body of a request to arrive.
    pub receive_time: Duration,
    /// For the head of a request to arrive, or the next one on an open connection.
    pub idle_time: Duration,
    /// For what is being answered when the server is told to stop.
    pub shutdown_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            tokens: 1 << 20,
            queue: 512,
            top: 20,
            connections: 512,
            answer_time: Duration::from_secs(600),
            receive_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            shutdown_time: Duration::from_secs(30),
        }
    }
}
