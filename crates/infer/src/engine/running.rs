//! A request that is being worked on.

use std::sync::Arc;

use terrace_completion::{
    Error, Event, FinishReason, ModelFacts, Request, RequestId, Sampling, ScorePrompt, TokenScore,
};
use terrace_tokenizer::Tokenizer;

use crate::scores::LogRow;
use crate::text::{Detokenizer, StopScanner};

/// A request that has a place in the cache.
pub(super) struct Running {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) slot: usize,
    /// The prompt and what was generated.
    pub(super) tokens: Vec<u32>,
    scores: Vec<TokenScore>,
    prompt_told: bool,
    text: Option<Detokenizer>,
    stops: StopScanner,
    ended: Option<FinishReason>,
}

/// The place from which on the prompt's tokens are scored.
fn scored_from(request: &Request) -> Option<usize> {
    match request.score_prompt {
        ScorePrompt::No => None,
        ScorePrompt::From(from) => Some(from.max(1)),
    }
}

/// The tokens of the prompt that need not be computed if they are in the cache: the scores of
/// nothing that follows them are asked for.
pub(super) fn computed_for_nothing(request: &Request) -> usize {
    let last = request.prompt.len() - 1;
    scored_from(request).map_or(last, |from| last.min(from - 1))
}

/// What a tokenizer that cannot decode means here.
fn text_error(error: impl std::fmt::Display) -> Error {
    Error::Device(error.to_string())
}

impl Running {
    pub(super) fn new(
        id: RequestId,
        request: Request,
        slot: usize,
        tokenizer: Option<&Arc<Tokenizer>>,
    ) -> Result<Self, Error> {
        let text = tokenizer
            .map(|tokenizer| Detokenizer::new(tokenizer.clone(), &request.prompt))
            .transpose()
            .map_err(text_error)?;
        Ok(Self {
            id,
            slot,
            tokens: request.prompt.clone(),
            scores: Vec::new(),
            prompt_told: false,
            text,
            stops: StopScanner::new(&request.stop),
            ended: None,
            request,
        })
    }

    /// Whether nothing was generated yet.
    pub(super) fn is_prefilling(&self) -> bool {
        self.tokens.len() == self.request.prompt.len()
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }

    /// The tokens that have to be in the cache before the request can go on. What follows the last
    /// token matters only if something is to be generated, and what follows the others of a prompt
    /// only if that or their scores is asked for.
    pub(super) fn to_compute(&self) -> usize {
        if self.request.max_new_tokens > 0 {
            self.tokens.len()
        } else if scored_from(&self.request).is_some_and(|from| from < self.tokens.len()) {
            self.tokens.len() - 1
        } else {
            0
        }
    }

    /// Whether the scores of what follows a place are asked for.
    pub(super) fn wants(&self, place: usize) -> bool {
        let next = place + 1;
        if next == self.tokens.len() {
            return self.generated() < self.request.max_new_tokens;
        }
        next < self.request.prompt.len()
            && scored_from(&self.request).is_some_and(|from| next >= from)
    }

    /// Takes the scores of the next row that was wanted; gives whether a token was generated.
    pub(super) fn take(
        &mut self,
        row: &LogRow,
        facts: &ModelFacts,
        choose: impl Fn(&LogRow, usize, Sampling) -> u32,
        events: &mut Vec<(RequestId, Event)>,
    ) -> Result<bool, Error> {
        let prompt = &self.request.prompt;
        let scored =
            scored_from(&self.request).map_or(prompt.len(), |from| from) + self.scores.len();
        if scored < prompt.len() {
            self.scores.push(row.score(prompt[scored], self.request.top));
            return Ok(false);
        }
        self.tell_prompt(events);
        let token = choose(row, self.tokens.len(), self.request.sampling);
        let score = row.score(token, self.request.top);
        self.tokens.push(token);
        let ends = facts.end_of_text.contains(&token) && !self.request.ignore_end_of_text;
        let text = if ends { String::new() } else { self.text_of(token)? };
        events.push((self.id, Event::Token { score, text }));
        if ends || self.stops.is_stopped() {
            self.ended = Some(FinishReason::Stop);
        } else if self.generated() == self.request.max_new_tokens {
            self.ended = Some(FinishReason::Length);
        }
        Ok(true)
    }

    fn text_of(&mut self, token: u32) -> Result<String, Error> {
        let Some(text) = &mut self.text else { return Ok(String::new()) };
        let piece = text.push(token).map_err(text_error)?;
        Ok(self.stops.push(&piece))
    }

    /// Tells the scores of the prompt, once, if they were asked for.
    fn tell_prompt(&mut self, events: &mut Vec<(RequestId, Event)>) {
        if !self.prompt_told && scored_from(&self.request).is_some() {
            events.push((self.id, Event::Prompt(self.scores.clone())));
        }
        self.prompt_told = true;
    }

    /// Ends the answer if it is whole, with `computed` tokens in the cache; gives whether it is.
    pub(super) fn finish(
        &mut self,
        computed: usize,
        events: &mut Vec<(RequestId, Event)>,
    ) -> Result<bool, Error> {
        if self.request.max_new_tokens == 0 && computed >= self.to_compute() {
            self.tell_prompt(events);
            self.ended = Some(FinishReason::Length);
        }
        let Some(mut reason) = self.ended else { return Ok(false) };
        let mut text = String::new();
        if let Some(rest) = self.text.as_mut().filter(|_| !self.stops.is_stopped()) {
            text = self.stops.push(&rest.finish().map_err(text_error)?);
            if !self.stops.is_stopped() {
                text.push_str(&self.stops.finish());
            }
            if self.stops.is_stopped() {
                reason = FinishReason::Stop;
            }
        }
        events.push((self.id, Event::Finished { reason, text }));
        Ok(true)
    }
}
