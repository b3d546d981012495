//! The items of tasks that documents are searched for, and what is written of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use terrace_base::{Fingerprint, FingerprintHasher};
use terrace_config::{ContaminationAction, ContaminationConfig, load_task};
use terrace_data::{Contamination, FileEntry, TaskContamination};
use terrace_eval::contamination::{
    CONTAMINATION_FILE, Content, DocumentPlace, ItemContamination, contents,
};

use crate::chain::contamination::{NgramIndex, NgramRules};
use crate::chain::{Contaminants, Found};
use crate::input::InputFile;
use crate::{Error, Result};

/// The items of tasks, as their files have them.
pub(crate) struct TaskItems {
    action: ContaminationAction,
    rules: NgramRules,
    /// The tasks by name: in which order they were named decides nothing.
    tasks: Vec<(String, Vec<Content>)>,
}

impl TaskItems {
    /// Reads the task files and their items.
    pub(crate) fn read(config: &ContaminationConfig) -> Result<Self> {
        let mut tasks: Vec<(String, Vec<Content>)> = Vec::new();
        for path in task_files(&config.tasks)? {
            let task = load_task(&path, &[]).map_err(|error| Error::TaskFile(Box::new(error)))?;
            tasks.push((task.config.name.clone(), contents(&task.config, None)?));
        }
        tasks.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(twice) = tasks.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let task = twice[0].0.clone();
            let reason = "two of the task files have this name; give one another `name`".to_owned();
            return Err(terrace_eval::Error::Task { task, reason }.into());
        }
        let &ContaminationConfig { action, ngram, minimum_words, maximum_items, .. } = config;
        Ok(Self { action, rules: NgramRules { ngram, minimum_words, maximum_items }, tasks })
    }

    /// What decides which documents are found, wherever the files lie.
    pub(crate) fn settings(&self) -> Value {
        let hash = |(task, items): &(String, Vec<Content>)| {
            let mut hasher = FingerprintHasher::new();
            for item in items {
                hasher.update(item.subset.as_bytes()).update(&item.hash().0);
            }
            json!({ "task": task, "items": items.len(), "blake3": hasher.finish() })
        };
        json!({
            "action": self.action,
            "ngram": self.rules.ngram,
            "minimum_words": self.rules.minimum_words,
            "maximum_items": self.rules.maximum_items,
            "tasks": self.tasks.iter().map(hash).collect::<Vec<_>>(),
        })
    }
}

/// The files that some paths stand for, each once.
fn task_files(paths: &[String]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let missing = || Error::NoTask { pattern: path.clone() };
        if Path::new(path).is_file() {
            files.push(path.into());
            continue;
        }
        let before = files.len();
        let found = glob::glob(path).map_err(|_| missing())?;
        files.extend(found.filter_map(std::result::Result::ok).filter(|file| file.is_file()));
        if files.len() == before {
            return Err(missing());
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Items whose n-grams are at hand, so that documents can be searched for them.
pub(crate) struct Searched {
    action: ContaminationAction,
    index: NgramIndex,
    tasks: Vec<String>,
    items: Vec<Item>,
}

/// An item, without its text.
struct Item {
    task: u32,
    subset: String,
    index: usize,
    hash: Fingerprint,
}

impl Searched {
    pub(crate) fn new(of: &TaskItems) -> Self {
        let contents = (0u32..)
            .zip(&of.tasks)
            .flat_map(|(task, (_, items))| items.iter().map(move |item| (task, item)));
        let passages = contents.clone().map(|(task, item)| (task, item.passages.as_slice()));
        let item = |(task, item): (u32, &Content)| Item {
            task,
            subset: item.subset.clone(),
            index: item.index,
            hash: item.hash(),
        };
        Self {
            action: of.action,
            index: NgramIndex::new(passages, of.rules),
            tasks: of.tasks.iter().map(|(name, _)| name.clone()).collect(),
            items: contents.map(item).collect(),
        }
    }

    /// What the chain looks for.
    pub(crate) fn contaminants(&self) -> Contaminants<'_> {
        Contaminants { index: &self.index, action: self.action }
    }

    /// Writes a line for each item into `directory`, and sums up by task.
    pub(crate) fn write(
        &self,
        directory: &Path,
        source: &str,
        files: &[InputFile],
        found: &Found,
    ) -> Result<Contamination> {
        let mut text = String::new();
        for number in 0..self.items.len() {
            let line = self.line(number, source, files, found);
            text.push_str(&serde_json::to_string(&line).expect("a line is plain data"));
            text.push('\n');
        }
        let path = directory.join(CONTAMINATION_FILE);
        terrace_base::fs::write_atomic(&path, text.as_bytes())
            .map_err(|source| Error::Write { path, source })?;
        let items = FileEntry {
            file: CONTAMINATION_FILE.to_owned(),
            bytes: text.len() as u64,
            blake3: Fingerprint::of_bytes(text.as_bytes()),
        };
        let tasks = (0u32..).zip(&self.tasks).map(|(task, name)| self.sum(task, name, found));
        Ok(Contamination { documents: found.documents, tasks: tasks.collect(), items })
    }

    fn line(
        &self,
        number: usize,
        source: &str,
        files: &[InputFile],
        found: &Found,
    ) -> ItemContamination {
        let item = &self.items[number];
        let number = u32::try_from(number).expect("items have numbers of 32 bits");
        let ngrams = self.index.ngrams_of(number);
        let found = found.items.get(&number);
        let place = |(file, row): (u32, u64)| DocumentPlace {
            file: files[file as usize].name.clone(),
            row,
        };
        ItemContamination {
            task: self.tasks[item.task as usize].clone(),
            subset: item.subset.clone(),
            index: item.index,
            item: item.hash,
            source: source.to_owned(),
            action: self.action,
            ngrams: ngrams.into(),
            documents: found.map_or(0, |found| found.documents),
            share: found.map_or(0.0, |found| f64::from(found.ngrams) / f64::from(ngrams)),
            closest: found.map(|found| place(found.closest)),
        }
    }

    fn sum(&self, task: u32, name: &str, found: &Found) -> TaskContamination {
        let mut sum = TaskContamination {
            task: name.to_owned(),
            items: 0,
            items_without_ngrams: 0,
            items_found: 0,
            documents: found.tasks.get(&task).copied().unwrap_or(0),
        };
        for (number, _) in (0u32..).zip(&self.items).filter(|(_, item)| item.task == task) {
            sum.items += 1;
            sum.items_without_ngrams += u64::from(self.index.ngrams_of(number) == 0);
            sum.items_found += u64::from(found.items.contains_key(&number));
        }
        sum
    }
}
