//! What is known of one item once it is scored: a line of the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use terrace_base::Fingerprint;
use terrace_config::TaskGroup;

pub use crate::sandbox::Outcome;

/// A scored item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// The task's name.
    pub task: String,
    /// Its group.
    pub group: TaskGroup,
    /// The subset, or nothing.
    pub subset: String,
    /// The place in the subset, counted from 0.
    pub index: usize,
    /// The metric that stands for the task.
    pub metric: String,
    /// The score by metric.
    pub metrics: BTreeMap<String, f64>,
    /// Whether the prompt was cut from the left.
    pub is_cut: bool,
    /// What the scores come from.
    pub detail: Detail,
    /// The hash of the task and of what was asked.
    pub item: Fingerprint,
    /// What the caller calls the model.
    pub model: String,
}

/// What the scores come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "form")]
pub enum Detail {
    /// Which option was likeliest.
    MultipleChoice {
        /// The natural logarithm of each option's probability.
        log_probabilities: Vec<f64>,
        /// Whether greedy decoding would have written each option.
        is_greedy: Vec<bool>,
        /// The place of the likeliest; the first of equally likely ones.
        chosen: usize,
        /// The place of the right one.
        answer: usize,
    },
    /// What was written.
    Generation {
        /// The whole answers.
        texts: Vec<String>,
        /// What each filter took out of the first.
        taken: BTreeMap<String, String>,
        /// What it was compared with.
        target: String,
    },
    /// Programs, and what became of them.
    Code {
        /// The programs' parts that were written.
        texts: Vec<String>,
        /// How each ended.
        outcomes: Vec<Outcome>,
    },
    /// How well a text was predicted.
    Perplexity {
        /// The sum of negative log-probabilities, in nats.
        nats: f64,
        /// Tokens of the text.
        tokens: usize,
        /// Bytes of the text.
        bytes: usize,
        /// Its words, as the harness counts them: pieces between white space.
        words: usize,
    },
}
