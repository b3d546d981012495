//! What is asked.

use serde::{Deserialize, Serialize};

use crate::{Error, ModelFacts};

/// Names a request of a model; counted up, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Sampling {
    /// The likeliest token, of equally likely ones the lowest id.
    #[default]
    Greedy,
    /// Drawn from the smallest set of likeliest tokens that holds `top_p` of the probability.
    Nucleus {
        /// What the logits are divided by; more than zero.
        temperature: f32,
        /// In `(0, 1]`; one draws from all tokens.
        top_p: f32,
        /// With the place of the token it fixes the draw, whatever else is in the batch.
        seed: u64,
    },
}

/// Whether the tokens of the prompt are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScorePrompt {
    /// Not at all: only what is generated is.
    #[default]
    No,
    /// From this place of the prompt on; the token at place zero has no score, as nothing is before it.
    From(usize),
}

/// A prompt, and how it is to be continued.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The tokens to continue; taken as they are, nothing is put before them.
    pub prompt: Vec<u32>,
    /// The most tokens to generate; zero only scores the prompt.
    pub max_new_tokens: usize,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Texts that end the continuation, which is cut before the earliest; looked for in the decoded
    /// text of the continuation alone. Any number.
    pub stop: Vec<String>,
    /// Go on behind the token that ends a text.
    pub ignore_end_of_text: bool,
    /// Whether the prompt's own tokens are scored.
    pub score_prompt: ScorePrompt,
    /// So many of the likeliest tokens are told with each scored one.
    pub top: usize,
}

impl Request {
    /// The greedy continuation of a prompt.
    #[must_use]
    pub fn greedy(prompt: Vec<u32>, max_new_tokens: usize) -> Self {
        Self { prompt, max_new_tokens, ..Self::default() }
    }

    /// The scores of `continuation` behind `context`, and nothing generated.
    ///
    /// # Panics
    ///
    /// The context is empty: the first token of a text has no score.
    #[must_use]
    pub fn score(context: &[u32], continuation: &[u32]) -> Self {
        assert!(!context.is_empty(), "nothing is before the first token");
        Self {
            prompt: [context, continuation].concat(),
            score_prompt: ScorePrompt::From(context.len()),
            top: 1,
            ..Self::default()
        }
    }

    /// Whether a model of these facts can answer.
    ///
    /// # Errors
    ///
    /// It is empty, too long, has a token that is not in the vocabulary or a setting without sense.
    pub fn check(&self, facts: &ModelFacts) -> Result<(), Error> {
        if self.prompt.is_empty() {
            return Err(Error::Empty);
        }
        let (prompt, new, context) = (self.prompt.len(), self.max_new_tokens, facts.context_length);
        if prompt.saturating_add(new) > context {
            return Err(Error::TooLong { prompt, new, context });
        }
        let vocab_size = facts.vocab_size;
        let known = |token: u32| (token as usize) < vocab_size;
        if let Some(token) = self.prompt.iter().copied().find(|token| !known(*token)) {
            return Err(Error::UnknownToken { token, vocab_size });
        }
        if let Sampling::Nucleus { temperature, top_p, .. } = self.sampling {
            let sound = temperature.is_finite() && temperature > 0.0 && top_p > 0.0 && top_p <= 1.0;
            if !sound {
                let message = format!(
                    "temperature {temperature} and top_p {top_p}: expected a temperature above 0 and \
                     a top_p above 0 and at most 1"
                );
                return Err(Error::Setting(message));
            }
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Setting("a stop of no character; leave it out".to_owned()));
        }
        Ok(())
    }
}

/// An answer as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The scores of the prompt's tokens that were asked for, in order.
    pub prompt_scores: Vec<crate::TokenScore>,
    /// The tokens that were generated, in order; those that a stop cut off are among them.
    pub tokens: Vec<crate::TokenScore>,
    /// The text of the continuation, without the stop.
    pub text: String,
    /// Why it ended.
    pub finish_reason: crate::FinishReason,
}

impl Completion {
    /// Adds a piece of the answer; gives whether it is whole with it.
    pub fn take(&mut self, event: crate::Event) -> bool {
        match event {
            crate::Event::Prompt(scores) => self.prompt_scores = scores,
            crate::Event::Token { score, text } => {
                self.tokens.push(score);
                self.text.push_str(&text);
            }
            crate::Event::Finished { reason, text } => {
                self.text.push_str(&text);
                self.finish_reason = reason;
                return true;
            }
        }
        false
    }
}
