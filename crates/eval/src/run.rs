//! Tasks, asked and scored.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use terrace_base::{Fingerprint, FingerprintHasher};
use terrace_completion::{Completion, LanguageModel, ModelFacts};
use terrace_config::{TaskConfig, TaskForm};
use terrace_tokenizer::Tokenizer;

use crate::ask::Asked;
use crate::contamination::{Flagged, Standings};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::prompt::{Ask, Item, prepare};
use crate::record::{Detail, ItemRecord};
use crate::report::Report;
use crate::request::{Requests, requests};
use crate::sandbox::{self, Limits, Outcome, Sandbox};
use crate::score::generation::Judge;
use crate::score::{answers, code};
use crate::statistics;

/// What is asked, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The tasks, in the order in which they are asked.
    pub tasks: Vec<TaskConfig>,
    /// Of each task, or of each subset of one that has subsets, only so many items.
    pub limit: Option<usize>,
    /// The log of scored items; what it holds of this model is not asked again.
    pub log: Option<PathBuf>,
    /// What the model is called in the log: two models are the same if it is, so a hash of its weights
    /// and of how it computes.
    pub model: String,
    /// The most tokens of a prompt and what follows; by default the model's context. A prompt is cut
    /// from the left to one token less, as the API client of lm-evaluation-harness does.
    pub max_length: Option<usize>,
    /// The token that stands where nothing stands before a text; by default the model's first token
    /// that ends a text.
    pub prefix_token: Option<u32>,
    /// The most requests that the model is given at once.
    pub requests_at_once: usize,
    /// Programs that are tried at once.
    pub sandboxes: usize,
    /// Which items stand in what the model was trained on; then they are reported apart from the others.
    pub flagged: Option<Flagged>,
}

impl Settings {
    /// The defaults for some tasks and a model.
    #[must_use]
    pub fn new(tasks: Vec<TaskConfig>, model: impl Into<String>) -> Self {
        Self {
            tasks,
            limit: None,
            log: None,
            model: model.into(),
            max_length: None,
            prefix_token: None,
            requests_at_once: 256,
            sandboxes: 2,
            flagged: None,
        }
    }
}

/// Is told how far an evaluation is.
pub trait Observer {
    /// A task begins; of its items so many are known from the log.
    fn begins(&mut self, _task: &str, _items: usize, _known: usize) {}

    /// An item is scored; so many of its task's now are, those from the log included.
    fn scored(&mut self, _record: &ItemRecord, _done: usize, _items: usize) {}
}

impl Observer for () {}

/// Tasks whose items have been read and checked, before there is a model.
#[derive(Debug)]
pub struct Evaluation {
    settings: Settings,
    sandbox: Option<Sandbox>,
    /// The items of each task.
    items: Vec<Vec<Item>>,
    /// Which of them stand in what the model was trained on.
    standings: Option<Standings>,
    /// The log, and what it holds already.
    log: Option<(Log, Vec<ItemRecord>)>,
}

impl Evaluation {
    /// Reads the items of all tasks, and opens the log.
    ///
    /// # Errors
    ///
    /// A task or its items are wrong, programs are to be tried and there is no sandbox, or the log is
    /// damaged or cannot be written.
    pub fn prepare(settings: Settings) -> Result<Self> {
        check_names(&settings.tasks)?;
        let sandbox = match settings.tasks.iter().any(|task| task.form == TaskForm::Code) {
            true => Some(Sandbox::new()?),
            false => None,
        };
        let items = settings.tasks.iter().map(|task| prepare(task, settings.limit));
        let items = items.collect::<Result<_>>()?;
        let standings = Standings::of(&settings)?;
        let log = settings.log.as_deref().map(Log::open).transpose()?;
        Ok(Self { settings, sandbox, items, standings, log })
    }

    /// Says what the model is called, where that is known only now; see [`Settings::model`].
    #[must_use]
    pub fn of_model(mut self, name: impl Into<String>) -> Self {
        self.settings.model = name.into();
        self
    }

    /// Asks a model all tasks, and reports its scores.
    ///
    /// # Determinism
    ///
    /// A function of the tasks, their files and the model's answers. What is known from the log counts as
    /// it was scored then, so an evaluation that was stopped and is asked for again ends in the same
    /// report.
    ///
    /// # Errors
    ///
    /// The model, the log or the sandbox gives out.
    pub fn ask(
        self,
        model: &mut dyn LanguageModel,
        tokenizer: &Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<Report> {
        let settings = &self.settings;
        let (mut log, known) = self.log.unzip();
        let known = Known::new(known.unwrap_or_default(), &settings.model);
        let ModelFacts { context_length, end_of_text, .. } = model.facts().clone();
        let max_length = settings.max_length.unwrap_or(context_length).min(context_length);
        let prefix = settings.prefix_token.or_else(|| end_of_text.first().copied()).unwrap_or(0);
        let mut records = Vec::new();
        for (task, items) in settings.tasks.iter().zip(&self.items) {
            let judge = Judge::new(task).map_err(|error| Error::Task {
                task: task.name.clone(),
                reason: error.to_string(),
            })?;
            let mut one = OneTask {
                settings,
                task,
                items,
                judge,
                requests: Requests { tokenizer, max_length, prefix, task },
                log: log.as_mut(),
                observer: &mut *observer,
                records: vec![None; items.len()],
                done: 0,
            };
            one.known(&known, tokenizer);
            one.ask(model, self.sandbox.as_ref())?;
            records.extend(one.records.into_iter().flatten());
        }
        Ok(Report::new(settings, &records, self.standings.as_ref()))
    }
}

/// [Prepares](Evaluation::prepare) and [asks](Evaluation::ask).
///
/// # Errors
///
/// As theirs.
pub fn run(
    settings: &Settings,
    model: &mut dyn LanguageModel,
    tokenizer: &Tokenizer,
    observer: &mut dyn Observer,
) -> Result<Report> {
    Evaluation::prepare(settings.clone())?.ask(model, tokenizer, observer)
}

fn check_names(tasks: &[TaskConfig]) -> Result<()> {
    for (index, task) in tasks.iter().enumerate() {
        if tasks[..index].iter().any(|earlier| earlier.name == task.name) {
            let reason =
                "there are two of this name; give one of the files another `name`".to_owned();
            return Err(Error::Task { task: task.name.clone(), reason });
        }
    }
    Ok(())
}

/// What a log holds of this model.
struct Known(HashMap<Fingerprint, ItemRecord>);

impl Known {
    fn new(records: Vec<ItemRecord>, model: &str) -> Self {
        let of_model = records.into_iter().filter(|record| record.model == model);
        Self(of_model.map(|record| (record.item, record)).collect())
    }
}

/// A task while it is asked.
struct OneTask<'a> {
    settings: &'a Settings,
    task: &'a TaskConfig,
    items: &'a [Item],
    judge: Judge,
    requests: Requests<'a>,
    log: Option<&'a mut Log>,
    observer: &'a mut dyn Observer,
    records: Vec<Option<ItemRecord>>,
    done: usize,
}

/// A program to be tried: of which item, and its text.
type Job = (usize, Vec<String>);
/// How the programs of an item ended.
type Tried = (usize, Result<Vec<Outcome>, sandbox::Error>);

impl OneTask<'_> {
    fn known(&mut self, known: &Known, tokenizer: &Tokenizer) {
        for place in 0..self.items.len() {
            let hash = self.hash(place, tokenizer);
            self.records[place] = known.0.get(&hash).cloned();
        }
        self.done = self.records.iter().flatten().count();
        self.observer.begins(&self.task.name, self.items.len(), self.done);
    }

    /// The hash of everything that a score depends on beside the model.
    fn hash(&self, place: usize, tokenizer: &Tokenizer) -> Fingerprint {
        // Where the files lie and what is shown before an item is in what is asked.
        let mut task = self.task.clone();
        task.data = terrace_config::TaskData {
            items: Vec::new(),
            examples: Vec::new(),
            subsets: std::collections::BTreeMap::new(),
        };
        let item = &self.items[place];
        let mut hasher = FingerprintHasher::new();
        for part in [
            serde_json::to_vec(&task),
            serde_json::to_vec(&item.ask),
            serde_json::to_vec(&(&item.subset, item.index)),
            serde_json::to_vec(&(self.requests.max_length, self.requests.prefix)),
        ] {
            hasher.update(&part.expect("plain data"));
        }
        hasher.update(&tokenizer.fingerprint().0);
        hasher.finish()
    }

    fn ask(&mut self, model: &mut dyn LanguageModel, sandbox: Option<&Sandbox>) -> Result<()> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (finished, tried) = mpsc::channel::<Tried>();
        let todo = std::sync::Mutex::new(todo);
        let limits = limits(self.task);
        thread::scope(|scope| {
            if let (Some(sandbox), TaskForm::Code) = (sandbox, self.task.form) {
                for _ in 0..self.settings.sandboxes.max(1) {
                    let (finished, todo) = (finished.clone(), &todo);
                    scope.spawn(move || try_programs(sandbox, &limits, todo, &finished));
                }
            }
            let result = self.ask_and_try(model, &jobs, &tried);
            // Without more jobs the threads end.
            drop(jobs);
            result
        })
    }

    fn ask_and_try(
        &mut self,
        model: &mut dyn LanguageModel,
        jobs: &mpsc::Sender<Job>,
        tried: &mpsc::Receiver<Tried>,
    ) -> Result<()> {
        let unknown =
            |(place, record): (usize, &Option<ItemRecord>)| record.is_none().then_some(place);
        let open: Vec<usize> = self.records.iter().enumerate().filter_map(unknown).collect();
        let tokenizer = self.requests.tokenizer;
        let mut left = open.into_iter();
        let mut asked = Asked::new(model);
        let mut cut = HashMap::new();
        // Written, but not tried yet.
        let mut written: HashMap<usize, Vec<String>> = HashMap::new();
        loop {
            while asked.pending() < self.settings.requests_at_once.max(1) {
                let Some(place) = left.next() else { break };
                let asking = requests(&self.requests, &self.items[place])?;
                cut.insert(place, asking.is_cut);
                if asking.requests.is_empty() {
                    let record = self.record(place, tokenizer, Vec::new(), false, None);
                    self.keep(place, record)?;
                } else {
                    asked.submit(place, asking.requests)?;
                }
            }
            let waits_for_model = asked.pending() > 0;
            if waits_for_model {
                for (place, answers) in asked.step()? {
                    if let Ask::Code { fields, .. } = &self.items[place].ask {
                        let texts: Vec<String> = answers.into_iter().map(|a| a.text).collect();
                        let programs = self.programs(place, fields, &texts)?;
                        written.insert(place, texts);
                        // The threads live as long as this sender.
                        let _ = jobs.send((place, programs));
                    } else {
                        let record = self.record(place, tokenizer, answers, cut[&place], None);
                        self.keep(place, record)?;
                    }
                }
            }
            while !written.is_empty() {
                let next = if waits_for_model { tried.try_recv().ok() } else { tried.recv().ok() };
                let Some((place, outcomes)) = next else { break };
                let texts = written.remove(&place).unwrap_or_default();
                let answers =
                    texts.into_iter().map(|text| Completion { text, ..Completion::default() });
                let record =
                    self.record(place, tokenizer, answers.collect(), cut[&place], Some(outcomes?));
                self.keep(place, record)?;
            }
            if asked.pending() == 0 && written.is_empty() && left.len() == 0 {
                return Ok(());
            }
        }
    }

    fn programs(
        &self,
        place: usize,
        fields: &serde_json::Value,
        texts: &[String],
    ) -> Result<Vec<String>> {
        let program = |text: &String| code::program(self.task, fields, text);
        texts.iter().map(program).collect::<Result<_, String>>().map_err(|reason| {
            let item = &self.items[place];
            let (task, of_subset) = (self.task.name.clone(), String::new());
            Error::Item {
                task,
                of_subset,
                index: item.index,
                key: "code.program".to_owned(),
                reason,
            }
        })
    }

    fn record(
        &self,
        place: usize,
        tokenizer: &Tokenizer,
        answers: Vec<Completion>,
        is_cut: bool,
        outcomes: Option<Vec<Outcome>>,
    ) -> ItemRecord {
        let item = &self.items[place];
        let (metrics, detail) = match outcomes {
            Some(outcomes) => {
                let (n, c) = (outcomes.len(), outcomes.iter().filter(|o| o.is_pass()).count());
                let metric = |k: &usize| (format!("pass@{k}"), statistics::pass_at_k(n, c, *k));
                let metrics = self.task.code.pass_at.iter().map(metric).collect();
                let texts = answers.into_iter().map(|answer| answer.text).collect();
                (metrics, Detail::Code { texts, outcomes })
            }
            None => answers::score(self.task, &self.judge, &item.ask, &answers),
        };
        ItemRecord {
            task: self.task.name.clone(),
            group: self.task.group,
            subset: item.subset.clone(),
            index: item.index,
            metric: self.task.metric.clone(),
            metrics,
            is_cut,
            detail,
            item: self.hash(place, tokenizer),
            model: self.settings.model.clone(),
        }
    }

    fn keep(&mut self, place: usize, record: ItemRecord) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.append(&record)?;
        }
        self.done += 1;
        self.observer.scored(&record, self.done, self.items.len());
        self.records[place] = Some(record);
        Ok(())
    }
}

fn limits(task: &TaskConfig) -> Limits {
    Limits {
        time: std::time::Duration::from_secs_f64(task.code.timeout_seconds),
        memory: task.code.memory.0,
        processes: task.code.processes,
        output: task.code.output.0,
    }
}

/// Tries programs until there are no more.
fn try_programs(
    sandbox: &Sandbox,
    limits: &Limits,
    todo: &std::sync::Mutex<mpsc::Receiver<Job>>,
    finished: &mpsc::Sender<Tried>,
) {
    loop {
        let job = match todo.lock() {
            Ok(todo) => todo.recv(),
            Err(_) => return,
        };
        let Ok((place, programs)) = job else { return };
        let outcomes = programs.iter().map(|program| sandbox.run(program, limits)).collect();
        if finished.send((place, outcomes)).is_err() {
            return;
        }
    }
}
