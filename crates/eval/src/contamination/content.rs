//! What an item says by itself.

use serde_json::Value;
use terrace_base::{Fingerprint, FingerprintHasher};
use terrace_config::{TaskConfig, TaskForm};

use super::words::{BREAK, without_words};
use crate::error::Result;
use crate::items::Fields;
use crate::prompt::{Filled, of_all_subsets};

/// An item's own text, without what is the same for all items of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its subset, or nothing.
    pub subset: String,
    /// Its place in the subset, counted from 0.
    pub index: usize,
    /// Texts between which words of a template stand, or that are the same item in several forms.
    pub passages: Vec<String>,
}

impl Content {
    /// The hash by which an item is known whatever is shown before it, and wherever it stands.
    #[must_use]
    pub fn hash(&self) -> Fingerprint {
        let mut hasher = FingerprintHasher::new();
        for passage in &self.passages {
            hasher.update(passage.as_bytes());
        }
        hasher.finish()
    }
}

/// Reads a task's items, and gives what each says by itself; of each subset the first `limit` items, in the
/// order of [`prepare`](crate::prepare).
///
/// That is its question; the question with each option, or with the target; and where something is
/// written (the forms `generation` and `code`), every text among its fields, for there the reference
/// solution stands. Neither examples nor the description belong to it, nor the words of the templates:
/// where these stand a passage ends.
///
/// # Determinism
///
/// A function of the task and the files of its items.
///
/// # Errors
///
/// A file is missing or damaged, or an item does not fit the task.
pub fn contents(task: &TaskConfig, limit: Option<usize>) -> Result<Vec<Content>> {
    let bare = |texts: &[String]| texts.iter().map(|text| without_words(text)).collect();
    let bare = TaskConfig {
        prompt: without_words(&task.prompt),
        prompts: bare(&task.prompts),
        options: bare(&task.options),
        target: without_words(&task.target),
        delimiter: without_words(&task.delimiter),
        ..task.clone()
    };
    of_all_subsets(&bare, |subset| {
        let content = |place: crate::prompt::Place<'_>| {
            let (index, fields) = (place.index, place.fields.clone());
            let mut texts = texts(&place.filled()?, &bare)?;
            if matches!(bare.form, TaskForm::Generation | TaskForm::Code) {
                add_fields(&fields, &mut texts);
            }
            Ok(Content { subset: subset.name.to_owned(), index, passages: passages(&texts) })
        };
        subset.places(limit)?.into_iter().map(content).collect()
    })
}

/// The question, and the question with what may stand behind it.
fn texts(item: &Filled<'_>, task: &TaskConfig) -> Result<Vec<String>> {
    let prompt = || item.text("prompt", &task.prompt);
    let target = || item.text("target", &task.target);
    let joined =
        |question: &String, answer: &String| format!("{question}{}{answer}", task.delimiter);
    Ok(match task.form {
        TaskForm::MultipleChoice if !task.prompts.is_empty() => {
            let (prompts, target) = (item.texts("prompts", &task.prompts)?, target()?);
            prompts.iter().flat_map(|prompt| [prompt.clone(), joined(prompt, &target)]).collect()
        }
        TaskForm::MultipleChoice => {
            let (prompt, options) = (prompt()?, item.options()?);
            let behind: Vec<String> =
                options.iter().map(|option| joined(&prompt, option)).collect();
            std::iter::once(prompt).chain(behind).collect()
        }
        TaskForm::Generation => {
            let prompt = prompt()?;
            let whole = joined(&prompt, &target()?);
            vec![prompt, whole]
        }
        // A program's parts are fields.
        TaskForm::Code => vec![prompt()?],
        TaskForm::Perplexity => vec![prompt()?],
    })
}

/// Every text among the fields; a list of texts is one.
fn add_fields(fields: &Fields, texts: &mut Vec<String>) {
    for value in fields.values() {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(values) => {
                let lines: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                texts.push(lines.join("\n"));
            }
            Value::Object(fields) => add_fields(fields, texts),
            _ => {}
        }
    }
}

/// The pieces between breaks that have a word, each once.
fn passages(texts: &[String]) -> Vec<String> {
    let mut passages: Vec<String> = Vec::new();
    for passage in texts.iter().flat_map(|text| text.split(BREAK)).map(str::trim) {
        let is_new = !passages.iter().any(|known| known == passage);
        if is_new && passage.contains(char::is_alphanumeric) {
            passages.push(passage.to_owned());
        }
    }
    passages
}
