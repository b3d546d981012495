//! What is asked, as requests of tokens.

use terrace_completion::{Request, Sampling};
use terrace_config::TaskConfig;
use terrace_tokenizer::Tokenizer;

use crate::encode::{Pair, cut_pair, cut_prompt, pair, windows};
use crate::error::{Error, Result};
use crate::prompt::{Ask, Item};

/// What all requests of a task have in common.
pub(crate) struct Requests<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    /// Tokens of a prompt and one that follows.
    pub(crate) max_length: usize,
    /// Stands where nothing stands before a text.
    pub(crate) prefix: u32,
    pub(crate) task: &'a TaskConfig,
}

/// The requests of one item, in order.
pub(crate) struct Asking {
    pub(crate) requests: Vec<Request>,
    pub(crate) is_cut: bool,
}

/// An item as requests; none for a text without a token.
pub(crate) fn requests(of: &Requests<'_>, item: &Item) -> Result<Asking> {
    of.check_length()?;
    match &item.ask {
        Ask::MultipleChoice { contexts, continuations, .. } => {
            let pairs = contexts.iter().zip(continuations).map(|(context, continuation)| {
                let pair = pair(of.tokenizer, context, continuation, of.prefix)?;
                Ok(cut_pair(pair, of.max_length - 1))
            });
            Ok(Asking::scores(pairs.collect::<Result<_>>()?))
        }
        Ask::Perplexity { text } => {
            let tokens = of.tokenizer.encode(text)?;
            // The client takes one token from its limit for the context, and one for what follows.
            Ok(Asking::scores(windows(&tokens, of.prefix, of.max_length - 2)))
        }
        Ask::Generation { prompt, .. } | Ask::Code { prompt, .. } => of.generations(item, prompt),
    }
}

impl Asking {
    fn scores(pairs: Vec<Pair>) -> Self {
        Self {
            is_cut: pairs.iter().any(|pair| pair.is_cut),
            requests: pairs
                .iter()
                .map(|pair| Request::score(&pair.context, &pair.continuation))
                .collect(),
        }
    }
}

impl Requests<'_> {
    fn check_length(&self) -> Result<()> {
        let refuse = |reason| Err(Error::Task { task: self.task.name.clone(), reason });
        if self.max_length < 3 {
            return refuse(format!("{} tokens of context are too few", self.max_length));
        }
        Ok(())
    }

    fn generations(&self, item: &Item, prompt: &str) -> Result<Asking> {
        let generation = &self.task.generation;
        let limit = (self.max_length - 1).saturating_sub(generation.max_new_tokens);
        if limit == 0 {
            let reason = format!(
                "{} tokens are to be generated, which leaves no room for a prompt in {}; lower \
                 `generation.max_new_tokens`",
                generation.max_new_tokens, self.max_length
            );
            return Err(Error::Task { task: self.task.name.clone(), reason });
        }
        let (mut tokens, is_cut) = cut_prompt(self.tokenizer.encode(prompt)?, limit);
        if tokens.is_empty() {
            tokens.push(self.prefix);
        }
        let stream = generation.seed.stream(&self.task.name).substream(item.index as u64);
        let sampling = |sample: usize| match generation.temperature {
            0.0 => Sampling::Greedy,
            temperature => Sampling::Nucleus {
                temperature: temperature as f32,
                top_p: generation.top_p as f32,
                seed: stream.at(sample as u64),
            },
        };
        let request = |sample| Request {
            sampling: sampling(sample),
            stop: generation.stop.clone(),
            ..Request::greedy(tokens.clone(), generation.max_new_tokens)
        };
        Ok(Asking { requests: (0..generation.samples).map(request).collect(), is_cut })
    }
}
