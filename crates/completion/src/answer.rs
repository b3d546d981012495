//! What is answered, as it comes.

use serde::{Deserialize, Serialize};

/// How likely a token was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability given all before it, at temperature one.
    pub log_probability: f32,
    /// The likeliest tokens in falling order, as many as were asked for; where the token itself is
    /// among them, with the identical number.
    pub top: Vec<(u32, f32)>,
}

impl TokenScore {
    /// Whether no token was likelier, which is what lm-evaluation-harness calls greedy: of several as
    /// likely ones each is. None if no likeliest token was asked for.
    #[must_use]
    pub fn is_greedy(&self) -> Option<bool> {
        self.top.first().map(|(_, best)| self.log_probability == *best)
    }
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// As many tokens as were asked for.
    #[default]
    Length,
    /// A stop, or the token that ends a text.
    Stop,
}

/// A piece of an answer.
///
/// First the prompt's scores, if asked for; then the tokens in order; then the end. The texts of all
/// pieces together are the text of the continuation.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The scores of the prompt's tokens that were asked for.
    Prompt(Vec<TokenScore>),
    /// A token was generated.
    Token {
        /// The token and its score.
        score: TokenScore,
        /// The text that is certain by now: no character is cut, and nothing that may turn out to be
        /// the beginning of a stop is in it.
        text: String,
    },
    /// The answer is whole.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The text that was held back and belongs to the continuation after all.
        text: String,
    },
}
