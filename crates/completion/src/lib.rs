//! What is asked of a language model, and what it answers.
//!
//! The words that inference answers in, and evaluation and the server ask in. It knows no tensor, so
//! that both can be built and tested against [`Bigram`], a model whose every probability is known.

mod answer;
mod bigram;
mod error;
mod model;
mod request;

pub use answer::{Event, FinishReason, TokenScore};
pub use bigram::Bigram;
pub use error::Error;
pub use model::{LanguageModel, ModelFacts, complete_all};
pub use request::{Completion, Request, RequestId, Sampling, ScorePrompt};
