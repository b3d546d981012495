//! A model that answers many requests at once.

use std::collections::HashMap;

use crate::{Completion, Error, Event, Request, RequestId};

/// What one has to know of a model to ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// The most tokens of prompt and continuation together.
    pub context_length: usize,
    /// The tokens that end a text.
    pub end_of_text: Vec<u32>,
}

/// A model that works on the requests it was given, a step at a time.
///
/// Requests may be given and taken back between any two steps.
pub trait LanguageModel {
    /// What it is.
    fn facts(&self) -> &ModelFacts;

    /// Takes a request; it is worked on in the steps to come.
    ///
    /// # Errors
    ///
    /// The request is not one that the model can answer; see [`Request::check`].
    fn submit(&mut self, request: Request) -> Result<RequestId, Error>;

    /// Drops a request; nothing more is said of it. One that is finished or unknown is no error.
    fn cancel(&mut self, id: RequestId);

    /// Works on what there is, and gives what is known now, in the order of each answer. Nothing
    /// only if no request is left.
    ///
    /// # Errors
    ///
    /// The device or the memory gave out.
    fn step(&mut self) -> Result<Vec<(RequestId, Event)>, Error>;

    /// The requests that are waiting or being worked on.
    fn pending(&self) -> usize;
}

/// Asks for everything and waits for all answers, in the order of the requests; `done` is told after
/// each finished one.
///
/// # Errors
///
/// A request cannot be answered, or the model stopped answering.
pub fn complete_all(
    model: &mut dyn LanguageModel,
    requests: impl IntoIterator<Item = Request>,
    mut done: impl FnMut(usize, &Completion),
) -> Result<Vec<Completion>, Error> {
    let mut places = HashMap::new();
    let mut answers = Vec::new();
    for request in requests {
        places.insert(model.submit(request)?, answers.len());
        answers.push(Completion::default());
    }
    while !places.is_empty() {
        for (id, event) in model.step()? {
            let Some(place) = places.get(&id).copied() else { continue };
            if answers[place].take(event) {
                places.remove(&id);
                done(place, &answers[place]);
            }
        }
    }
    Ok(answers)
}
