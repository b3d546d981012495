//! Relations between the values of an evaluation task.

use std::collections::BTreeSet;

use minijinja::Environment;

use super::Check;
use crate::error::Diagnostic;
use crate::fault::closest;
use crate::node::{Document, KeyPath};
use crate::task::{TaskConfig, TaskForm};

/// More is a mistake in the file.
const MOST_SAMPLES: usize = 1000;

/// Everything that is wrong with the file of a task.
pub(crate) fn task(config: &TaskConfig, document: &Document) -> Vec<Diagnostic> {
    let mut check = Check { document, problems: Vec::new() };
    check.text("name", &config.name);
    check.task_metric(config);
    check.task_data(config);
    check.task_form(config);
    check.task_texts(config);
    check.task_generation(config);
    check.task_patterns(config);
    check.problems
}

impl Check<'_> {
    fn task_metric(&mut self, config: &TaskConfig) {
        let known = config.form.metrics(config);
        if !known.contains(&config.metric) {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let message = format!("`metric`: found {:?}, which this task has not", config.metric);
            let help = match closest(&config.metric, &names) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("its metrics are {}", names.join(", ")),
            };
            self.refuse_with_help(&KeyPath::new("metric"), message, help);
        }
    }

    fn task_data(&mut self, config: &TaskConfig) {
        let data = &config.data;
        if data.items.is_empty() {
            let message = "`data.items` is empty, expected at least one file";
            self.refuse(&KeyPath::new("data.items"), message);
        }
        for (key, paths) in [("data.items", &data.items), ("data.examples", &data.examples)] {
            for (index, path) in paths.iter().enumerate() {
                let place = KeyPath::new(key).child(index);
                if path.contains("://") {
                    let message = format!("`{place}`: found an address, expected a local file");
                    let help = "fetch the file first; nothing is downloaded by an evaluation";
                    self.refuse_with_help(&place, message, help.to_owned());
                }
                if path.contains("{subset}") == data.subsets.is_empty() && key == "data.items" {
                    let message = if data.subsets.is_empty() {
                        format!("`{place}`: there is no subset to put in place of {{subset}}")
                    } else {
                        format!("`{place}`: the task has subsets, but the path is that of all")
                    };
                    let help = "name the subsets in [data.subsets], and write {subset} in the path";
                    self.refuse_with_help(&place, message, help.to_owned());
                }
            }
        }
        let fewshot = &config.fewshot;
        let path = KeyPath::new("fewshot.shots");
        let written = fewshot.examples.len();
        if written > 0 && !data.examples.is_empty() {
            let message = "`fewshot.examples`: there is `data.examples` too";
            self.refuse(&KeyPath::new("fewshot.examples"), message);
        } else if fewshot.shots > 0 && written == 0 && data.examples.is_empty() {
            let message = format!("`fewshot.shots`: found {}, but no examples", fewshot.shots);
            let help = "name their files in `data.examples`, or write them in `fewshot.examples`";
            self.refuse_with_help(&path, message, help.to_owned());
        } else if written > 0 && fewshot.shots > written {
            let message =
                format!("`fewshot.shots`: found {}, but {written} examples", fewshot.shots);
            self.refuse(&path, message);
        }
    }

    /// What each form needs, and what it has no use for.
    fn task_form(&mut self, config: &TaskConfig) {
        let is = |form| config.form == form;
        let by_context = !config.prompts.is_empty();
        let texts: [(&str, bool, bool, bool); 7] = [
            ("prompt", !config.prompt.is_empty(), !by_context, !by_context),
            ("prompts", by_context, false, is(TaskForm::MultipleChoice)),
            ("options", !config.options.is_empty(), false, is(TaskForm::MultipleChoice)),
            ("options_from", !config.options_from.is_empty(), false, is(TaskForm::MultipleChoice)),
            (
                "answer",
                !config.answer.is_empty(),
                is(TaskForm::MultipleChoice),
                is(TaskForm::MultipleChoice),
            ),
            (
                "target",
                !config.target.is_empty(),
                by_context
                    || is(TaskForm::Generation)
                    || (is(TaskForm::Code) && config.fewshot.shots > 0),
                by_context || is(TaskForm::Generation) || is(TaskForm::Code),
            ),
            (
                "code.program",
                !config.code.program.is_empty(),
                is(TaskForm::Code),
                is(TaskForm::Code),
            ),
        ];
        for (key, written, needed, possible) in texts {
            if needed && !written {
                let message = format!("the key `{key}` is missing, which this form needs");
                self.refuse(&KeyPath::new(key.split('.').next().unwrap_or(key)), message);
            }
            if written && !possible {
                let message = format!("`{key}` has no meaning here");
                let help = "take it out, or change `form`".to_owned();
                self.refuse_with_help(&KeyPath::new(key), message, help);
            }
        }
        if is(TaskForm::MultipleChoice) {
            let ways = [by_context, !config.options.is_empty(), !config.options_from.is_empty()];
            if ways.iter().filter(|way| **way).count() != 1 {
                let message = "expected one of `options`, `options_from` and `prompts`";
                self.refuse(&KeyPath::new("form"), message);
            }
        }
        if is(TaskForm::Perplexity) && config.fewshot.shots > 0 {
            let message = "`fewshot.shots`: a text that is predicted has no examples before it";
            self.refuse(&KeyPath::new("fewshot.shots"), message);
        }
    }

    fn task_texts(&mut self, config: &TaskConfig) {
        let one = |key: &str, text: &String| (KeyPath::new(key), text.clone());
        let mut templates = vec![
            one("description", &config.description),
            one("prompt", &config.prompt),
            one("target", &config.target),
            one("code.program", &config.code.program),
        ];
        for (name, text) in &config.values {
            templates.push((KeyPath::new("values").child(name), text.clone()));
        }
        for (key, texts) in [("prompts", &config.prompts), ("options", &config.options)] {
            for (index, text) in texts.iter().enumerate() {
                templates.push((KeyPath::new(key).child(index), text.clone()));
            }
        }
        let environment = Environment::new();
        for (path, text) in templates {
            if let Err(error) = environment.template_from_str(&text) {
                self.template(&path, &error);
            }
        }
        for (key, text) in [("options_from", &config.options_from), ("answer", &config.answer)] {
            if !text.is_empty()
                && let Err(error) = environment.compile_expression(text)
            {
                self.template(&KeyPath::new(key), &error);
            }
        }
    }

    fn template(&mut self, path: &KeyPath, error: &minijinja::Error) {
        let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let line = match error.line() {
            Some(line) if line > 1 => format!(" in line {line} of the text"),
            _ => String::new(),
        };
        let message = format!("`{path}` is not a template: {reason}{line}");
        let help = "templates are in Jinja's language, as in \"Question: {{question}}\"; keys that \
                    hold an expression have no braces";
        self.refuse_with_help(path, message, help.to_owned());
    }

    fn task_generation(&mut self, config: &TaskConfig) {
        let generation = &config.generation;
        self.at_least_one("generation.max_new_tokens", generation.max_new_tokens as u64);
        let path = KeyPath::new("generation.samples");
        if !(1..=MOST_SAMPLES).contains(&generation.samples) {
            let found = generation.samples;
            self.refuse(&path, format!("`{path}`: found {found}, expected 1 to {MOST_SAMPLES}"));
        }
        let (temperature, top_p) = (generation.temperature, generation.top_p);
        let path = KeyPath::new("generation.temperature");
        self.number(&path, temperature, "0 or more", temperature >= 0.0);
        let path = KeyPath::new("generation.top_p");
        self.number(&path, top_p, "above 0 and at most 1", top_p > 0.0 && top_p <= 1.0);
        if generation.samples > 1 && temperature == 0.0 {
            let message = "`generation.samples`: at temperature 0 all of them are the same";
            let help = "set `generation.temperature` above 0".to_owned();
            self.refuse_with_help(&KeyPath::new("generation.samples"), message, help);
        }
        if generation.stop.iter().any(String::is_empty) {
            let message = "`generation.stop`: a stop of no character";
            self.refuse(&KeyPath::new("generation.stop"), message);
        }
        let seconds = config.code.timeout_seconds;
        let path = KeyPath::new("code.timeout_seconds");
        self.number(&path, seconds, "above 0 and at most 3600", seconds > 0.0 && seconds <= 3600.0);
        self.at_least_one("code.memory", config.code.memory.0);
        self.at_least_one("code.processes", config.code.processes);
        let tries = config.form == TaskForm::Code;
        let out_of_reach = |k: &usize| *k == 0 || *k > generation.samples;
        if tries && (config.code.pass_at.is_empty() || config.code.pass_at.iter().any(out_of_reach))
        {
            let message = format!(
                "`code.pass_at`: expected numbers from 1 to generation.samples = {}",
                generation.samples
            );
            self.refuse(&KeyPath::new("code.pass_at"), message);
        }
    }

    fn task_patterns(&mut self, config: &TaskConfig) {
        let mut names = BTreeSet::new();
        let mut patterns = Vec::new();
        for (index, filter) in config.filters.iter().enumerate() {
            let path = KeyPath::new("filters").child(index);
            if !names.insert(filter.name.as_str()) {
                let message = format!("`{path}.name`: there are two filters {:?}", filter.name);
                self.refuse(&path.child("name"), message);
            }
            patterns.push((path.child("regex"), &filter.regex));
        }
        for (index, pattern) in config.comparison.ignore.iter().enumerate() {
            patterns.push((KeyPath::new("comparison.ignore").child(index), pattern));
        }
        for (path, pattern) in patterns {
            if let Err(error) = regex::Regex::new(pattern) {
                // The last line says what is wrong, those before it draw where.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                self.refuse(&path, format!("`{path}` is not a regular expression: {reason}"));
            }
        }
        let is_generation = config.form == TaskForm::Generation;
        if !config.filters.is_empty() && !is_generation {
            self.refuse(&KeyPath::new("filters"), "`filters` has no meaning here");
        }
    }
}
