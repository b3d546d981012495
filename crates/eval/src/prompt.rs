//! From the items of a task to what a model is asked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use minijinja::Value;
use serde::{Deserialize, Serialize};
use terrace_config::{ExampleOrder, TaskConfig, TaskForm};

use crate::error::{Error, Result};
use crate::items::{self, Fields};
use crate::template::Templates;

/// What a model is asked for one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "form")]
pub enum Ask {
    /// How likely each continuation is behind its context.
    MultipleChoice {
        /// The contexts, one for each option.
        contexts: Vec<String>,
        /// The continuations, with what stands between.
        continuations: Vec<String>,
        /// The options alone, whose lengths a score may be divided by.
        options: Vec<String>,
        /// The place of the right one.
        answer: usize,
    },
    /// To continue a text.
    Generation {
        /// The text.
        prompt: String,
        /// What the answer is compared with.
        target: String,
    },
    /// To continue a text by a program.
    Code {
        /// The text.
        prompt: String,
        /// The item's fields and values, for the template of the whole program.
        fields: serde_json::Value,
    },
    /// To predict a text.
    Perplexity {
        /// The text.
        text: String,
    },
}

/// An item of a task, ready to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its subset, or nothing.
    pub subset: String,
    /// Its place in the subset, counted from 0.
    pub index: usize,
    /// What is asked.
    pub ask: Ask,
}

/// Reads a task's items and fills in its templates; of each subset the first `limit` items.
///
/// # Determinism
///
/// A function of the task and its files: which examples are drawn for an item depends on the seed of
/// the task, the subset and the item's place alone.
///
/// # Errors
///
/// A file is missing or damaged, or an item does not fit the task.
pub fn prepare(task: &TaskConfig, limit: Option<usize>) -> Result<Vec<Item>> {
    of_all_subsets(task, |subset| subset.prepare(limit))
}

/// What is made of each subset's items, one after the other; at least one has to come out.
pub(crate) fn of_all_subsets<T>(
    task: &TaskConfig,
    mut make: impl FnMut(&Subset<'_>) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let titles: Vec<(&str, &str)> = match task.data.subsets.is_empty() {
        true => vec![("", "")],
        false => {
            task.data.subsets.iter().map(|(name, title)| (name.as_str(), title.as_str())).collect()
        }
    };
    let templates = Templates::new();
    let mut made = Vec::new();
    for (name, title) in titles {
        made.extend(make(&Subset { task, templates: &templates, name, title })?);
    }
    if made.is_empty() {
        let reason = "there are no items in its files".to_owned();
        return Err(Error::Task { task: task.name.clone(), reason });
    }
    Ok(made)
}

/// The items of a task without subsets, or of one of them.
pub(crate) struct Subset<'a> {
    task: &'a TaskConfig,
    templates: &'a Templates,
    pub(crate) name: &'a str,
    title: &'a str,
}

impl Subset<'_> {
    /// Its items, or the first `limit` of them, before their templates are filled in.
    pub(crate) fn places(&self, limit: Option<usize>) -> Result<Vec<Place<'_>>> {
        let name = (!self.name.is_empty()).then_some(self.name);
        let mut items = items::load(&self.task.name, &self.task.data.items, name)?;
        items.truncate(limit.unwrap_or(usize::MAX));
        let place = |(index, fields)| Place { subset: self, fields, index, is_fewshot: false };
        Ok(items.into_iter().enumerate().map(place).collect())
    }

    fn prepare(&self, limit: Option<usize>) -> Result<Vec<Item>> {
        let examples = self.examples((!self.name.is_empty()).then_some(self.name))?;
        let mut shown = BTreeMap::new();
        let mut prepared = Vec::new();
        for place in self.places(limit)? {
            let index = place.index;
            let place = place.filled()?;
            let mut header = place.text("description", &self.task.description)?;
            for number in self.drawn(index, examples.len()) {
                if let Entry::Vacant(unknown) = shown.entry(number) {
                    let fields = examples[number].clone();
                    let example = Place { subset: self, fields, index: number, is_fewshot: true };
                    unknown.insert(example.filled()?.example()?);
                }
                header.push_str(&shown[&number]);
                header.push_str(&self.task.fewshot.delimiter);
            }
            let ask = place.ask(&header)?;
            prepared.push(Item { subset: self.name.to_owned(), index, ask });
        }
        Ok(prepared)
    }

    fn examples(&self, name: Option<&str>) -> Result<Vec<Fields>> {
        let fewshot = &self.task.fewshot;
        if fewshot.shots == 0 {
            return Ok(Vec::new());
        }
        let examples = if fewshot.examples.is_empty() {
            items::load(&self.task.name, &self.task.data.examples, name)?
        } else {
            fewshot.examples.iter().map(|fields| fields.clone().into_iter().collect()).collect()
        };
        if examples.len() < fewshot.shots {
            let reason = format!(
                "{} examples are to be shown, but the files of `data.examples` hold {}",
                fewshot.shots,
                examples.len()
            );
            return Err(Error::Task { task: self.task.name.clone(), reason });
        }
        Ok(examples)
    }

    /// The examples of an item, in the order in which they are shown.
    fn drawn(&self, index: usize, count: usize) -> Vec<usize> {
        let fewshot = &self.task.fewshot;
        if fewshot.order == ExampleOrder::First {
            return (0..fewshot.shots).collect();
        }
        let stream = fewshot.seed.stream("examples").substream(index as u64);
        let mut drawn: Vec<usize> = Vec::with_capacity(fewshot.shots);
        let mut counter = 0;
        while drawn.len() < fewshot.shots {
            let number = (stream.unit(counter) * count as f64) as usize;
            counter += 1;
            if !drawn.contains(&number) {
                drawn.push(number);
            }
        }
        drawn
    }
}

/// An item or an example, before its templates are filled in.
pub(crate) struct Place<'a> {
    subset: &'a Subset<'a>,
    pub(crate) fields: Fields,
    pub(crate) index: usize,
    is_fewshot: bool,
}

/// The same with all variables that its templates may name.
pub(crate) struct Filled<'a> {
    place: Place<'a>,
    variables: Value,
}

impl<'a> Place<'a> {
    pub(crate) fn filled(mut self) -> Result<Filled<'a>> {
        self.fields.insert("subset".to_owned(), self.subset.name.into());
        self.fields.insert("subset_title".to_owned(), self.subset.title.into());
        self.fields.insert("is_fewshot".to_owned(), self.is_fewshot.into());
        let variables = Value::from_serialize(&self.fields);
        let mut filled = Filled { place: self, variables };
        let values = &filled.place.subset.task.values;
        let mut worked_out = Vec::new();
        for (name, template) in values {
            worked_out.push((name.clone(), filled.text(&format!("values.{name}"), template)?));
        }
        filled.place.fields.extend(worked_out.into_iter().map(|(name, text)| (name, text.into())));
        filled.variables = Value::from_serialize(&filled.place.fields);
        Ok(filled)
    }
}

impl Filled<'_> {
    fn task(&self) -> &TaskConfig {
        self.place.subset.task
    }

    fn error(&self, key: &str, reason: String) -> Error {
        let subset = self.place.subset.name;
        let mut of_subset = if subset.is_empty() { String::new() } else { format!(" of {subset}") };
        if self.place.is_fewshot {
            of_subset.push_str(" (shown as an example)");
        }
        Error::Item {
            task: self.task().name.clone(),
            of_subset,
            index: self.place.index,
            key: key.to_owned(),
            reason,
        }
    }

    pub(crate) fn text(&self, key: &str, template: &str) -> Result<String> {
        let templates = self.place.subset.templates;
        templates.text(template, &self.variables).map_err(|reason| self.error(key, reason))
    }

    fn value(&self, key: &str, expression: &str) -> Result<Value> {
        let templates = self.place.subset.templates;
        templates.value(expression, &self.variables).map_err(|reason| self.error(key, reason))
    }

    pub(crate) fn texts(&self, key: &str, templates: &[String]) -> Result<Vec<String>> {
        templates.iter().map(|template| self.text(key, template)).collect()
    }

    pub(crate) fn options(&self) -> Result<Vec<String>> {
        let task = self.task();
        if task.options_from.is_empty() {
            return self.texts("options", &task.options);
        }
        let value = self.value("options_from", &task.options_from)?;
        let text = |option: Value| option.as_str().map(str::to_owned);
        let list = value.try_iter().ok();
        let options: Option<Vec<String>> = list.and_then(|list| list.map(text).collect());
        options.filter(|options| !options.is_empty()).ok_or_else(|| {
            self.error("options_from", format!("found {value}, expected a list of texts"))
        })
    }

    /// The place of the right option among `count`; an option's text stands for its place.
    fn answer(&self, options: &[String], count: usize) -> Result<usize> {
        let value = self.value("answer", &self.task().answer)?;
        let by_text =
            value.as_str().and_then(|text| options.iter().position(|option| option == text));
        // A label of digits in quotes, as HellaSwag has it, is a place.
        let by_place = || match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None => usize::try_from(value.clone()).ok(),
        };
        by_text.or_else(by_place).filter(|answer| *answer < count).ok_or_else(|| {
            let reason = format!("found {value}, expected an option or its place below {count}");
            self.error("answer", reason)
        })
    }

    /// A solved item, without what stands between it and the next.
    fn example(&self) -> Result<String> {
        let task = self.task();
        let (question, answer) = match task.form {
            TaskForm::MultipleChoice if !task.prompts.is_empty() => {
                let prompts = self.texts("prompts", &task.prompts)?;
                let answer = self.answer(&[], prompts.len())?;
                (prompts[answer].clone(), self.text("target", &task.target)?)
            }
            TaskForm::MultipleChoice => {
                let options = self.options()?;
                let answer = self.answer(&options, options.len())?;
                (self.text("prompt", &task.prompt)?, options[answer].clone())
            }
            _ => (self.text("prompt", &task.prompt)?, self.text("target", &task.target)?),
        };
        Ok(format!("{question}{}{answer}", task.delimiter))
    }

    fn ask(&self, header: &str) -> Result<Ask> {
        let task = self.task();
        let prompt = || Ok::<_, Error>(format!("{header}{}", self.text("prompt", &task.prompt)?));
        Ok(match task.form {
            TaskForm::MultipleChoice if !task.prompts.is_empty() => {
                let prompts = self.texts("prompts", &task.prompts)?;
                let answer = self.answer(&[], prompts.len())?;
                let target = self.text("target", &task.target)?;
                Ask::MultipleChoice {
                    continuations: vec![format!("{}{target}", task.delimiter); prompts.len()],
                    contexts: prompts.iter().map(|prompt| format!("{header}{prompt}")).collect(),
                    options: prompts,
                    answer,
                }
            }
            TaskForm::MultipleChoice => {
                let options = self.options()?;
                let answer = self.answer(&options, options.len())?;
                let join = |option: &String| format!("{}{option}", task.delimiter);
                Ask::MultipleChoice {
                    contexts: vec![prompt()?; options.len()],
                    continuations: options.iter().map(join).collect(),
                    options,
                    answer,
                }
            }
            TaskForm::Generation => {
                Ask::Generation { prompt: prompt()?, target: self.text("target", &task.target)? }
            }
            TaskForm::Code => {
                // An item whose program cannot be put together is found before the model is asked.
                let fields = serde_json::Value::Object(self.place.fields.clone());
                crate::score::code::program(task, &fields, "")
                    .map_err(|reason| self.error("code.program", reason))?;
                Ask::Code { prompt: prompt()?, fields }
            }
            TaskForm::Perplexity => Ask::Perplexity { text: prompt()? },
        })
    }
}
