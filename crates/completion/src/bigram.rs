//! A language model whose every probability is known in closed form.

use std::collections::{BTreeMap, VecDeque};

use terrace_base::Seed;

use crate::{
    Error, Event, FinishReason, LanguageModel, ModelFacts, Request, RequestId, Sampling,
    ScorePrompt, TokenScore,
};

/// A model whose next token depends on the last one alone, by a table of logits.
///
/// It is for tests: what is asked through a server or an evaluation has to come out as
/// [`log_probability`](Self::log_probability) says.
///
/// # Determinism
///
/// A function of its pieces and its seed.
pub struct Bigram {
    facts: ModelFacts,
    pieces: Vec<String>,
    /// By the token before.
    log_probabilities: Vec<Vec<f32>>,
    next_id: u64,
    answers: BTreeMap<RequestId, VecDeque<Event>>,
}

impl Bigram {
    /// A model whose tokens are written as `pieces`, with logits drawn from a seed; `end_of_text`
    /// ends a text.
    #[must_use]
    pub fn new(pieces: &[&str], end_of_text: u32, context_length: usize, seed: Seed) -> Self {
        let stream = seed.stream("bigram");
        let size = pieces.len();
        // Thousandths, so that no two logits of a row are closer than rounding can tell.
        let logit = |i: usize| (stream.at(i as u64) % 4000) as f64 / 1000.0;
        let row = |before: usize| {
            let logits: Vec<f64> = (0..size).map(|next| logit(before * size + next)).collect();
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            logits.iter().map(|logit| (logit - sum.ln()) as f32).collect()
        };
        Self {
            facts: ModelFacts { vocab_size: size, context_length, end_of_text: vec![end_of_text] },
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            log_probabilities: (0..size).map(row).collect(),
            next_id: 0,
            answers: BTreeMap::new(),
        }
    }

    /// The natural logarithm of the probability of `next` behind `before`.
    #[must_use]
    pub fn log_probability(&self, before: u32, next: u32) -> f32 {
        self.log_probabilities[before as usize][next as usize]
    }

    /// The likeliest token behind `before`; of equally likely ones the lowest id.
    #[must_use]
    pub fn likeliest(&self, before: u32) -> u32 {
        self.ranked(before)[0].0
    }

    fn ranked(&self, before: u32) -> Vec<(u32, f32)> {
        let row = &self.log_probabilities[before as usize];
        let mut ranked: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
    }

    fn score(&self, before: u32, token: u32, top: usize) -> TokenScore {
        let mut ranked = self.ranked(before);
        ranked.truncate(top);
        TokenScore { token, log_probability: self.log_probability(before, token), top: ranked }
    }

    fn choose(&self, before: u32, place: usize, sampling: Sampling) -> u32 {
        let Sampling::Nucleus { temperature, top_p, seed } = sampling else {
            return self.likeliest(before);
        };
        let weights: Vec<(u32, f64)> = self
            .ranked(before)
            .into_iter()
            .map(|(token, log)| (token, f64::from(log / temperature).exp()))
            .collect();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut nucleus = 0.0;
        let cut = weights.iter().position(|(_, weight)| {
            nucleus += weight;
            nucleus >= f64::from(top_p) * total
        });
        let kept = &weights[..=cut.unwrap_or(weights.len() - 1)];
        let unit =
            (Seed(seed).stream("token").at(place as u64) >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = unit * nucleus;
        for (token, weight) in kept {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        kept[kept.len() - 1].0
    }

    fn answer(&self, request: &Request) -> VecDeque<Event> {
        let mut events = VecDeque::new();
        if let ScorePrompt::From(from) = request.score_prompt {
            let scored = request.prompt.windows(2).skip(from.max(1) - 1);
            let scores = scored.map(|pair| self.score(pair[0], pair[1], request.top)).collect();
            events.push_back(Event::Prompt(scores));
        }
        let mut tokens = Vec::new();
        let mut text = String::new();
        let mut before = *request.prompt.last().expect("a request that was checked");
        let mut reason = FinishReason::Length;
        while tokens.len() < request.max_new_tokens {
            let place = request.prompt.len() + tokens.len();
            let token = self.choose(before, place, request.sampling);
            tokens.push((self.score(before, token, request.top), text.len()));
            before = token;
            if self.facts.end_of_text.contains(&token) && !request.ignore_end_of_text {
                reason = FinishReason::Stop;
                break;
            }
            text.push_str(&self.pieces[token as usize]);
            if let Some(end) = request.stop.iter().filter_map(|stop| text.find(stop)).min() {
                text.truncate(end);
                reason = FinishReason::Stop;
                break;
            }
        }
        let ends: Vec<usize> = tokens.iter().skip(1).map(|(_, start)| *start).collect();
        let ends = ends.into_iter().chain([text.len()]).map(|end| end.min(text.len()));
        for ((score, start), end) in tokens.iter().cloned().zip(ends) {
            let text = text[start.min(end)..end].to_owned();
            events.push_back(Event::Token { score, text });
        }
        events.push_back(Event::Finished { reason, text: String::new() });
        events
    }
}

impl LanguageModel for Bigram {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, Error> {
        request.check(&self.facts)?;
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.answers.insert(id, self.answer(&request));
        Ok(id)
    }

    fn cancel(&mut self, id: RequestId) {
        self.answers.remove(&id);
    }

    fn step(&mut self) -> Result<Vec<(RequestId, Event)>, Error> {
        let mut events = Vec::new();
        for (id, answer) in &mut self.answers {
            events.extend(answer.pop_front().map(|event| (*id, event)));
        }
        self.answers.retain(|_, answer| !answer.is_empty());
        Ok(events)
    }

    fn pending(&self) -> usize {
        self.answers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::complete_all;

    fn model() -> Bigram {
        Bigram::new(&["<end>", "a", "b", " c", "数", "\n"], 0, 32, Seed(4))
    }

    #[test]
    fn rows_are_distributions_and_scores_are_their_entries() {
        let mut model = model();
        for before in 0..6 {
            let sum: f64 =
                (0..6).map(|next| f64::from(model.log_probability(before, next)).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-6);
        }
        let [answer] =
            &complete_all(&mut model, [Request::score(&[1, 2], &[3, 4])], |_, _| {}).unwrap()[..]
        else {
            panic!()
        };
        let scores: Vec<f32> = answer.prompt_scores.iter().map(|s| s.log_probability).collect();
        assert_eq!(scores, [model.log_probability(2, 3), model.log_probability(3, 4)]);
        let greedy = answer.prompt_scores[0].is_greedy();
        assert_eq!(greedy, Some(model.likeliest(2) == 3));
    }

    #[test]
    fn what_is_generated_is_greedy_and_ends_before_a_stop() {
        let mut model = model();
        let mut request = Request { ignore_end_of_text: true, ..Request::greedy(vec![1], 12) };
        let whole = complete_all(&mut model, [request.clone()], |_, _| {}).unwrap().remove(0);
        let mut before = 1;
        for score in &whole.tokens {
            assert_eq!(score.token, model.likeliest(before));
            before = score.token;
        }
        assert_eq!(whole.finish_reason, FinishReason::Length);
        let stop: String = whole.text.chars().skip(2).take(1).collect();
        request.stop = vec![stop.clone()];
        let cut = complete_all(&mut model, [request], |_, _| {}).unwrap().remove(0);
        assert_eq!(cut.text, whole.text[..whole.text.find(&stop).unwrap()]);
        assert_eq!(cut.finish_reason, FinishReason::Stop);
    }

    #[test]
    fn a_draw_depends_on_its_seed_alone() {
        let mut model = model();
        let request = |seed| Request {
            sampling: Sampling::Nucleus { temperature: 1.0, top_p: 0.9, seed },
            ignore_end_of_text: true,
            ..Request::greedy(vec![2], 20)
        };
        let answers =
            complete_all(&mut model, [request(1), request(2), request(1)], |_, _| {}).unwrap();
        assert_eq!(answers[0], answers[2]);
        assert_ne!(answers[0].text, answers[1].text);
    }

    #[test]
    fn requests_that_cannot_be_answered_are_refused() {
        let mut model = model();
        let refused = |model: &mut Bigram, request| model.submit(request).unwrap_err().to_string();
        assert!(refused(&mut model, Request::default()).contains("no token"));
        assert!(refused(&mut model, Request::greedy(vec![1; 30], 3)).contains("32 tokens"));
        assert!(refused(&mut model, Request::greedy(vec![6], 1)).contains("token 6"));
        let sampling = Sampling::Nucleus { temperature: 0.0, top_p: 1.0, seed: 0 };
        let hot = Request { sampling, ..Request::greedy(vec![1], 1) };
        assert!(refused(&mut model, hot).contains("temperature"));
        assert_eq!(model.pending(), 0);
    }
}
