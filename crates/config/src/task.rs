//! `TaskConfig`: what a model is asked and how its answers are judged, the language of `terrace eval`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use terrace_base::Seed;

use crate::bytes::Bytes;
use crate::path;

/// An evaluation task: its items, how an item becomes a prompt, and what counts as right.
///
/// Texts are templates in Jinja's language, in which an item's fields are variables; so are
/// `subset` and `subset_title`, the values of the section `values`, and `is_fewshot`, which is true
/// where an item is shown as an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// The name, unique among the tasks that are asked together.
    pub name: String,
    /// What it is counted with where tasks are taken together.
    #[serde(default)]
    pub group: TaskGroup,
    /// How the model is asked.
    pub form: TaskForm,
    /// The metric that stands for the task: one of the form's.
    pub metric: String,
    /// Where the items are.
    pub data: TaskData,
    /// Values that are worked out of an item first, each by a template of its fields.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// What stands before everything, once.
    #[serde(default)]
    pub description: String,
    /// The question of an item, without its answer; in the form `perplexity` the text itself.
    #[serde(default)]
    pub prompt: String,
    /// In place of `prompt`: one for each option, where the options differ in the context and what is
    /// scored is the `target` behind it.
    #[serde(default)]
    pub prompts: Vec<String>,
    /// The answers to choose from.
    #[serde(default)]
    pub options: Vec<String>,
    /// In place of `options`: an expression whose value is their list.
    #[serde(default)]
    pub options_from: String,
    /// An expression whose value is the right option: its place, counted from 0, or its text.
    #[serde(default)]
    pub answer: String,
    /// The right answer as a text: what is compared with, and what an example shows.
    #[serde(default)]
    pub target: String,
    /// Between a question and its answer.
    #[serde(default = "default_delimiter")]
    pub delimiter: String,
    /// Solved items that are shown before the question.
    #[serde(default)]
    pub fewshot: Fewshot,
    /// How an answer is generated.
    #[serde(default)]
    pub generation: Generation,
    /// What is taken out of a generated answer; each filter gives a score of its own.
    #[serde(default)]
    pub filters: Vec<TaskFilter>,
    /// When two answers are the same.
    #[serde(default)]
    pub comparison: Comparison,
    /// How a generated program is tried.
    #[serde(default)]
    pub code: CodeTask,
}

/// What a task is counted with where tasks are taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskGroup {
    /// Nothing.
    #[default]
    None,
    /// Programs.
    Code,
    /// Mathematics.
    Math,
    /// English text.
    Text,
}

/// How the model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskForm {
    /// Which option is likeliest behind the prompt; options may be letters or whole answers.
    MultipleChoice,
    /// What it writes, compared with the target.
    Generation,
    /// The program it writes, tried in a sandbox.
    Code,
    /// How well it predicts a text.
    Perplexity,
}

impl TaskForm {
    /// The metrics of the form; of `generation` one for each filter (`exact_match,NAME`), of `code` one
    /// for each number of tries (`pass@K`).
    #[must_use]
    pub fn metrics(self, task: &TaskConfig) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match self {
            // Where the options are contexts there is no length to divide by.
            Self::MultipleChoice if !task.prompts.is_empty() => owned(&["acc"]),
            Self::MultipleChoice => owned(&["acc", "acc_norm", "acc_bytes"]),
            Self::Generation if task.filters.is_empty() => owned(&["exact_match"]),
            Self::Generation => {
                task.filters.iter().map(|filter| format!("exact_match,{}", filter.name)).collect()
            }
            Self::Code => task.code.pass_at.iter().map(|k| format!("pass@{k}")).collect(),
            Self::Perplexity => owned(&["bits_per_byte", "byte_perplexity", "word_perplexity"]),
        }
    }
}

/// Where the items are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskData {
    /// Files of items, or globs; `{subset}` in them stands for the name of each subset.
    #[serde(deserialize_with = "path::deserialize_locations")]
    pub items: Vec<String>,
    /// Files of the items that are shown as examples.
    #[serde(default, deserialize_with = "path::deserialize_locations")]
    pub examples: Vec<String>,
    /// The subsets, by the names that stand in the paths, with what templates call them.
    #[serde(default)]
    pub subsets: BTreeMap<String, String>,
}

/// Solved items that are shown before the question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fewshot {
    /// How many.
    pub shots: usize,
    /// Which of the examples.
    pub order: ExampleOrder,
    /// The number that a drawing comes from.
    pub seed: Seed,
    /// Between two of them.
    pub delimiter: String,
    /// Examples that stand in the task file itself, in place of `data.examples`.
    pub examples: Vec<BTreeMap<String, Value>>,
}

/// Which of the examples are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExampleOrder {
    /// The first.
    #[default]
    First,
    /// Drawn without repetition, others for each item.
    Drawn,
}

/// How an answer is generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generation {
    /// The most tokens.
    pub max_new_tokens: usize,
    /// Texts that end it.
    pub stop: Vec<String>,
    /// Answers for each item.
    pub samples: usize,
    /// What the logits are divided by; zero takes the likeliest token.
    pub temperature: f64,
    /// Draws from the likeliest tokens that hold so much of the probability.
    pub top_p: f64,
    /// The number that the draws come from.
    pub seed: Seed,
}

/// What is taken out of a generated answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFilter {
    /// Its name, in the name of the metric.
    pub name: String,
    /// A regular expression; what its first group that is not empty matched is taken, or without groups
    /// the whole match.
    pub regex: String,
    /// Which of several matches.
    #[serde(default)]
    pub take: MatchChoice,
}

/// Which of several matches is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchChoice {
    /// The first.
    #[default]
    First,
    /// The last.
    Last,
}

/// When two answers are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Comparison {
    /// Whether the case of letters is nothing.
    pub ignore_case: bool,
    /// Whether ASCII punctuation is nothing.
    pub ignore_punctuation: bool,
    /// Regular expressions whose matches are taken out of both first, one after the other.
    pub ignore: Vec<String>,
    /// How both are brought into one form.
    pub normalize: Normalize,
}

/// How two answers are brought into one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Not at all.
    #[default]
    None,
    /// As formulas in LaTeX: appendix D of Lewkowycz et al. (2022).
    Math,
}

/// How a generated program is tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodeTask {
    /// The whole Python program; the answer is its variable `completion`. It passes if it runs to its end
    /// without an exception.
    pub program: String,
    /// Of so many tries at least one passes: the metrics `pass@K`.
    pub pass_at: Vec<usize>,
    /// Seconds that a program may take.
    pub timeout_seconds: f64,
    /// Memory that each of its processes may take.
    pub memory: Bytes,
    /// Processes that it may start.
    pub processes: u64,
    /// Bytes that it may write to its output.
    pub output: Bytes,
}

impl Default for Fewshot {
    fn default() -> Self {
        Self {
            shots: 0,
            order: ExampleOrder::First,
            seed: Seed(1234),
            delimiter: "\n\n".to_owned(),
            examples: Vec::new(),
        }
    }
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            stop: Vec::new(),
            samples: 1,
            temperature: 0.0,
            top_p: 1.0,
            seed: Seed(1234),
        }
    }
}

impl Default for CodeTask {
    fn default() -> Self {
        Self {
            program: String::new(),
            pass_at: vec![1],
            timeout_seconds: 3.0,
            memory: Bytes(1 << 30),
            processes: 16,
            output: Bytes(1 << 20),
        }
    }
}

fn default_delimiter() -> String {
    " ".to_owned()
}
