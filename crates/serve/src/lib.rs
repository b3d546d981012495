//! The HTTP server that speaks OpenAI's protocol, over any language model.
//!
//! [`run`] serves a [`LanguageModel`](terrace_completion::LanguageModel) on a socket until a
//! [`Shutdown`]; [`router`] gives the same routes without one. One thread owns the model and works
//! on all requests together; a client that goes away takes its requests back. Texts, stops and
//! probabilities are the model's: what is here reads requests, writes replies and keeps limits.

mod app;
mod ask;
mod body;
mod complete;
mod error;
mod fields;
mod metrics;
mod refusal;
mod reply;
mod router;
mod server;
mod settings;
mod stream;
mod template;
mod texts;
mod visit;
mod vocabulary;
mod worker;

pub use error::{Error, Result};
pub use router::router;
pub use server::{Shutdown, run};
pub use settings::{Limits, Settings};
pub use texts::Texts;
