//! Many requests at once, a step at a time.

mod running;

use std::collections::VecDeque;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;
use terrace_completion::{Error, Event, LanguageModel, ModelFacts, Request, RequestId};
use terrace_model::FrozenLm;
use terrace_tokenizer::Tokenizer;

use self::running::{Running, computed_for_nothing};
use crate::cache::{Cache, Span};
use crate::choose::choose;
use crate::forward::Runner;
use crate::prefix::{Slot, place};
use crate::scores::LogRow;

/// How an engine works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// The sequences that are worked on at once; further ones wait.
    pub slots: usize,
    /// The most tokens of prompt and continuation together.
    pub context_length: usize,
    /// The tokens of prompts that one step computes at most, beside one of each continuation.
    pub prefill_tokens: usize,
    /// The rows whose logits exist at one time.
    pub logit_rows: usize,
    /// Whether every row goes through every operation alone.
    ///
    /// On the processor the numbers of a request then do not depend, to the last bit, on what else is
    /// worked on, on how its prompt was cut, or on what was kept from before. It costs what batching
    /// gains: weights are read for each token, of prompts too.
    pub batch_invariant: bool,
    /// Whether keys and values are kept as other devices keep them, in the tensor library's own
    /// operations, where the processor has a faster way: the oracle of that.
    pub composed: bool,
    /// The tokens that end a text.
    pub end_of_text: Vec<u32>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            slots: 8,
            context_length: 4096,
            prefill_tokens: 512,
            logit_rows: 128,
            batch_invariant: false,
            composed: false,
            end_of_text: Vec::new(),
        }
    }
}

/// What an engine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of prompts that were computed.
    pub prefilled: u64,
    /// Tokens of prompts that were found in the cache.
    pub shared: u64,
    /// Tokens that were generated.
    pub generated: u64,
    /// Passes through the model.
    pub passes: u64,
}

/// A loaded model that answers requests.
///
/// All that is being worked on goes through each linear map as one matrix, one row for each new
/// position: there is no padding. Each row attends to its own sequence's cache. Sequences that have
/// been answered stay in the cache until their place is needed, and a new one that begins like one
/// of them copies the beginning instead of computing it.
///
/// # Determinism
///
/// What is drawn is a function of the scores, the seed and the token's place. The scores depend on
/// what else is in the batch in their last bits, unless the engine is
/// [batch-invariant](EngineOptions::batch_invariant).
pub struct Engine {
    facts: ModelFacts,
    options: EngineOptions,
    tokenizer: Option<Arc<Tokenizer>>,
    runner: Runner,
    slots: Vec<Slot>,
    waiting: VecDeque<(RequestId, Request)>,
    running: Vec<Running>,
    next_id: u64,
    clock: u64,
    counts: Counts,
    /// Why the engine answers nothing more.
    failed: Option<String>,
}

/// A row of the residual stream that somebody wants the scores of.
struct Wanted {
    /// Among all rows of the pass.
    row: usize,
    /// Among the running requests.
    running: usize,
}

impl Engine {
    /// Makes a model ready; without a tokenizer answers have no text and there are no stops.
    ///
    /// # Panics
    ///
    /// A count of the options is zero.
    #[must_use]
    pub fn new(
        model: impl Into<FrozenLm>,
        tokenizer: Option<Arc<Tokenizer>>,
        options: EngineOptions,
    ) -> Self {
        let model = model.into();
        let EngineOptions { slots, context_length, .. } = options;
        let counts = [slots, context_length, options.prefill_tokens, options.logit_rows];
        assert!(counts.iter().all(|count| *count > 0), "counts above zero");
        let facts = ModelFacts {
            vocab_size: model.architecture.vocab_size as usize,
            context_length,
            end_of_text: options.end_of_text.clone(),
        };
        let device = model.device();
        let (precision, composed) = (model.precision(), options.composed);
        let cache =
            Cache::new(&model.architecture, slots, context_length, &device, precision, composed);
        let runner = Runner::new(model, cache, context_length, options.batch_invariant);
        Self {
            facts,
            tokenizer,
            runner,
            slots: vec![Slot::default(); slots],
            waiting: VecDeque::new(),
            running: Vec::new(),
            next_id: 0,
            clock: 0,
            counts: Counts::default(),
            failed: None,
            options,
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Gives waiting requests a place, those first that came first. One that would compute what
    /// another is just computing waits for it, and lets those behind it pass.
    fn admit(&mut self) -> Result<(), Error> {
        let mut index = 0;
        while index < self.waiting.len() && self.slots.iter().any(|slot| !slot.busy) {
            let request = &self.waiting[index].1;
            let coming = self.running.iter().filter(|running| running.is_prefilling());
            let coming = coming.map(|running| &running.request.prompt[..]);
            let usable = computed_for_nothing(request);
            let Some(found) = place(&self.slots, &request.prompt, usable, coming) else {
                index += 1;
                continue;
            };
            let (id, request) = self.waiting.remove(index).expect("it is there");
            if found.slot != found.donor && found.shared > 0 {
                self.runner.cache.copy(found.donor, found.slot, found.shared);
            }
            self.clock += 1;
            self.slots[found.slot] = Slot {
                tokens: request.prompt[..found.shared].to_vec(),
                busy: true,
                used: self.clock,
            };
            self.counts.shared += found.shared as u64;
            self.running.push(Running::new(id, request, found.slot, self.tokenizer.as_ref())?);
        }
        Ok(())
    }

    /// Chooses the rows of the next pass: one of each continuation, and of the prompts as many as may be.
    fn plan(&self) -> Vec<(usize, Span)> {
        let mut left = self.options.prefill_tokens;
        let mut spans = Vec::new();
        for (index, running) in self.running.iter().enumerate() {
            let start = self.slots[running.slot].tokens.len();
            let pending = running.to_compute().saturating_sub(start);
            let count = if running.is_prefilling() { pending.min(left) } else { pending };
            if running.is_prefilling() {
                left -= count;
            }
            if count > 0 {
                spans.push((index, Span { slot: running.slot, start, count }));
            }
        }
        spans
    }

    /// One pass through the model and what follows from it.
    fn advance(&mut self, events: &mut Vec<(RequestId, Event)>) -> Result<(), Error> {
        self.admit()?;
        let plan = self.plan();
        if !plan.is_empty() {
            let (pieces, wanted) = self.compute(&plan);
            self.answer(pieces, &wanted, events)?;
        }
        for index in (0..self.running.len()).rev() {
            let running = &mut self.running[index];
            let computed = self.slots[running.slot].tokens.len();
            if running.finish(computed, events)? {
                self.slots[running.slot].busy = false;
                self.running.remove(index);
            }
        }
        Ok(())
    }

    /// Runs the planned rows; gives the residual stream and which of its rows are wanted.
    fn compute(&mut self, plan: &[(usize, Span)]) -> (Vec<Tensor<2>>, Vec<Wanted>) {
        let (mut tokens, mut wanted) = (Vec::new(), Vec::new());
        for (index, span) in plan {
            let running = &self.running[*index];
            for place in span.start..span.start + span.count {
                if running.wants(place) {
                    wanted.push(Wanted { row: tokens.len(), running: *index });
                }
                tokens.push(running.tokens[place]);
            }
            if running.is_prefilling() {
                self.counts.prefilled += span.count as u64;
            }
            let end = span.start + span.count;
            self.slots[span.slot].tokens.extend(&running.tokens[span.start..end]);
        }
        self.counts.passes += 1;
        let spans: Vec<Span> = plan.iter().map(|(_, span)| *span).collect();
        (self.runner.run(&tokens, &spans), wanted)
    }

    /// Tells the requests that want rows what their scores are, some rows at a time.
    fn answer(
        &mut self,
        pieces: Vec<Tensor<2>>,
        wanted: &[Wanted],
        events: &mut Vec<(RequestId, Event)>,
    ) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let x = if pieces.len() == 1 { pieces[0].clone() } else { Tensor::cat(pieces, 0) };
        let device = x.device();
        for chunk in wanted.chunks(self.options.logit_rows) {
            let ids: Vec<i32> = chunk.iter().map(|wanted| wanted.row as i32).collect();
            let ids = TensorData::new(ids, [chunk.len()]);
            let chosen = x.clone().select(0, Tensor::<1, Int>::from_data(ids, &device));
            let logits = self.runner.logits(chosen);
            let logs: Vec<Option<LogRow>> =
                logits.par_chunks_exact(self.facts.vocab_size).map(LogRow::of).collect();
            for (wanted, log) in chunk.iter().zip(logs) {
                let no_number =
                    || Error::Device("the model gave logits that are no numbers".into());
                let row = log.ok_or_else(no_number)?;
                let running = &mut self.running[wanted.running];
                let generated = running.take(&row, &self.facts, choose, events)?;
                self.counts.generated += u64::from(generated);
            }
        }
        Ok(())
    }

    /// What was computed cannot be trusted: gives up everything, for good.
    fn fail(&mut self, error: &Error) {
        self.running.clear();
        self.waiting.clear();
        self.slots.fill(Slot::default());
        self.failed = Some(error.to_string());
    }

    fn check(&self) -> Result<(), Error> {
        match &self.failed {
            Some(reason) => Err(Error::Device(format!("the model stopped earlier: {reason}"))),
            None => Ok(()),
        }
    }
}

impl LanguageModel for Engine {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, Error> {
        self.check()?;
        request.check(&self.facts)?;
        if self.tokenizer.is_none() && !request.stop.is_empty() {
            let message = "stops are looked for in text, and the model has no tokenizer";
            return Err(Error::Setting(message.to_owned()));
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back((id, request));
        Ok(id)
    }

    fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        if let Some(index) = self.running.iter().position(|running| running.id == id) {
            let running = self.running.remove(index);
            self.slots[running.slot].busy = false;
        }
    }

    fn step(&mut self) -> Result<Vec<(RequestId, Event)>, Error> {
        self.check()?;
        let mut events = Vec::new();
        while events.is_empty() && self.pending() > 0 {
            if let Err(error) = self.advance(&mut events) {
                self.fail(&error);
                return Err(error);
            }
        }
        Ok(events)
    }

    fn pending(&self) -> usize {
        self.waiting.len() + self.running.len()
    }
}
