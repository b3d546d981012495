//! Asking a model many things at once.

use std::collections::HashMap;

use terrace_completion::{Completion, Event, LanguageModel, Request, RequestId};

use crate::error::Result;

/// Requests that belong together, and their answers as they come.
struct Open {
    item: usize,
    answers: Vec<Completion>,
    unanswered: usize,
}

/// Items whose requests a model is working on.
pub(crate) struct Asked<'m> {
    model: &'m mut dyn LanguageModel,
    open: Vec<Option<Open>>,
    places: HashMap<RequestId, (usize, usize)>,
}

impl<'m> Asked<'m> {
    pub(crate) fn new(model: &'m mut dyn LanguageModel) -> Self {
        Self { model, open: Vec::new(), places: HashMap::new() }
    }

    /// Requests without an answer.
    pub(crate) fn pending(&self) -> usize {
        self.places.len()
    }

    /// Asks for all of an item; at least one request.
    pub(crate) fn submit(&mut self, item: usize, requests: Vec<Request>) -> Result<()> {
        let slot = self.open.iter().position(Option::is_none).unwrap_or_else(|| {
            self.open.push(None);
            self.open.len() - 1
        });
        let count = requests.len();
        for (part, request) in requests.into_iter().enumerate() {
            self.places.insert(self.model.submit(request)?, (slot, part));
        }
        let answers = vec![Completion::default(); count];
        self.open[slot] = Some(Open { item, answers, unanswered: count });
        Ok(())
    }

    /// Lets the model work a step, and gives the items that are answered now.
    pub(crate) fn step(&mut self) -> Result<Vec<(usize, Vec<Completion>)>> {
        let mut finished = Vec::new();
        for (id, event) in self.model.step()? {
            let Some((slot, part)) = self.places.get(&id).copied() else { continue };
            let Some(open) = &mut self.open[slot] else { continue };
            let answer = &mut open.answers[part];
            match event {
                Event::Prompt(scores) => answer.prompt_scores = scores,
                Event::Token { score, text } => {
                    answer.tokens.push(score);
                    answer.text.push_str(&text);
                }
                Event::Finished { reason, text } => {
                    answer.text.push_str(&text);
                    answer.finish_reason = reason;
                    self.places.remove(&id);
                    open.unanswered -= 1;
                    if open.unanswered == 0 {
                        finished
                            .extend(self.open[slot].take().map(|open| (open.item, open.answers)));
                    }
                }
            }
        }
        Ok(finished)
    }
}

/// What was asked for is not wanted any more, as something failed.
impl Drop for Asked<'_> {
    fn drop(&mut self) {
        for id in self.places.keys() {
            self.model.cancel(*id);
        }
    }
}
