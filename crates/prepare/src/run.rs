use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use terrace_base::fs::AtomicDirectory;
use terrace_config::{Input, PrepareConfig};
use terrace_data::{EditionHeader, Manifest, held_out_directory};
use terrace_tokenizer::Tokenizer;

use crate::chain::{Chain, ContentHash, LengthFilter};
use crate::contamination::{Searched, TaskItems};
use crate::engine::{Part, Prepared, Shared};
use crate::input::{InputFile, Probe, locate, probe};
use crate::observer::ProgressObserver;
use crate::output::{Found, Wanted, inspect};
use crate::{Error, Result, settings};

/// How the preparation is done; nothing here changes what comes out.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads that tokenise and write; by default one per core.
    pub threads: Option<NonZeroUsize>,
    /// Write over an edition that is already at the output, whatever it is.
    pub force: bool,
    /// Keys and values for object stores, such as `aws_access_key_id`; keys that a store does not
    /// know are ignored, so that the whole environment may be passed.
    pub store_options: Vec<(String, String)>,
}

/// What the preparation did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where the edition lies.
    pub output: PathBuf,
    /// What it is.
    pub manifest: Manifest,
    /// What its held-out part is, if it has one.
    pub held_out: Option<Manifest>,
    /// Whether it was there before, so that nothing was done.
    pub reused: bool,
    /// How long it took.
    pub seconds: f64,
    /// Rows read per second, held-out ones included.
    pub documents_per_second: f64,
    /// Tokens written per second, held-out ones included.
    pub tokens_per_second: f64,
}

/// Makes the edition that `config` describes at `output`, or finds that it is there.
///
/// # Errors
///
/// Bad settings, input that cannot be read, nothing left to write, or an output that is taken. The
/// output is then as it was before.
///
/// # Determinism
///
/// The edition is a function of the configuration, the tokenizer and the documents: neither the
/// number of threads nor the memory budget changes a byte of it, and the order of rows changes
/// nothing but the rows that are named as bad and, where duplicates are kept, nothing at all.
pub fn run(
    config: &PrepareConfig,
    output: &Path,
    options: &Options,
    observer: &dyn ProgressObserver,
) -> Result<Report> {
    let begin = Instant::now();
    settings::check(config)?;
    let job = Job::new(config, options, observer)?;
    let wanted = Wanted {
        tokenizer: job.tokenizer.fingerprint(),
        settings: &job.training.settings,
        held_out: job.held_out.as_ref().map(|set| &set.settings),
    };
    let (manifest, held_out, reused) = match inspect(output, &wanted, options.force)? {
        Found::Same(manifest, held_out) => (*manifest, held_out.map(|manifest| *manifest), true),
        Found::Room => {
            let (manifest, held_out) = job.write(output)?;
            (manifest, held_out, false)
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    let manifests = || [Some(&manifest), held_out.as_ref()].into_iter().flatten();
    let rate = |count: fn(&Manifest) -> u64| match reused {
        true => 0.0,
        false => manifests().map(count).sum::<u64>() as f64 / seconds.max(1e-9),
    };
    Ok(Report {
        output: output.to_owned(),
        documents_per_second: rate(|manifest| manifest.counts.read),
        tokens_per_second: rate(|manifest| manifest.target_tokens + manifest.documents),
        manifest,
        held_out,
        reused,
        seconds,
    })
}

/// Some files and the settings that their part of the edition is to have.
struct Set {
    files: Vec<InputFile>,
    settings: serde_json::Value,
}

struct Job<'a> {
    config: &'a PrepareConfig,
    observer: &'a dyn ProgressObserver,
    threads: usize,
    tokenizer: Tokenizer,
    eos: Option<u32>,
    training: Set,
    held_out: Option<Set>,
    /// Items of tasks, to be looked for in the documents to train on.
    items: Option<TaskItems>,
}

impl<'a> Job<'a> {
    fn new(
        config: &'a PrepareConfig,
        options: &Options,
        observer: &'a dyn ProgressObserver,
    ) -> Result<Self> {
        let tokenizer = Tokenizer::load(&config.tokenizer)?;
        let eos = eos(config, &tokenizer)?;
        let (files, probes) = look_at(&config.inputs, options)?;
        let (held_out_files, held_out_probes) = look_at(&config.held_out, options)?;
        let items = config.contamination.as_ref().map(TaskItems::read).transpose()?;
        let describe =
            |part, items| settings::describe(config, &probes, &held_out_probes, items, part);
        let held_out = (!held_out_files.is_empty())
            .then(|| Set { files: held_out_files, settings: describe("held_out", None) });
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            config,
            observer,
            threads: options.threads.unwrap_or_else(cores).get(),
            tokenizer,
            eos,
            training: Set { files, settings: describe("training", items.as_ref()) },
            held_out,
            items,
        })
    }

    fn write(&self, output: &Path) -> Result<(Manifest, Option<Manifest>)> {
        let failed = |source| Error::Write { path: output.to_owned(), source };
        let directory = AtomicDirectory::create(output).map_err(failed)?;
        let mut known = HashSet::new();
        let mut held_out = None;
        if let Some(set) = &self.held_out {
            let place = held_out_directory(directory.path());
            let prepared = self.part(set, &HashSet::new(), None, true, directory.path(), &place)?;
            known.extend(prepared.hashes);
            held_out = Some(prepared.manifest);
        }
        let place = directory.path();
        let searched = self.items.as_ref().map(Searched::new);
        let training = self.part(&self.training, &known, searched.as_ref(), false, place, place)?;
        directory.commit().map_err(failed)?;
        Ok((training.manifest, held_out))
    }

    fn part(
        &self,
        set: &Set,
        known: &HashSet<ContentHash>,
        searched: Option<&Searched>,
        held_out: bool,
        temporary: &Path,
        place: &Path,
    ) -> Result<Prepared> {
        let config = self.config;
        let part = Part {
            files: &set.files,
            chain: Chain {
                text_column: &config.text_column,
                id_column: config.id_column.as_deref(),
                maximum_document_bytes: config.maximum_document_bytes.0,
                normalization: config.normalization,
                lengths: LengthFilter {
                    minimum_characters: config.minimum_characters,
                    maximum_characters: config.maximum_characters,
                },
                held_out: known,
                contaminants: searched.map(Searched::contaminants),
                tokenizer: &self.tokenizer,
                eos: self.eos,
            },
            header: EditionHeader {
                source: config.source.clone(),
                sequence_length: config.sequence_length,
                packing: settings::packing(config),
                eos_token_id: self.eos,
                tokenizer: self.tokenizer.fingerprint(),
                byte_lengths: Arc::from(self.tokenizer.byte_lengths()),
            },
            partitions: config.partitions,
            settings: set.settings.clone(),
            searched,
            shared: Shared {
                threads: self.threads,
                memory_budget: config.memory_budget.0,
                spill_directory: config.spill_directory.as_deref().unwrap_or(temporary),
                shuffle: config.seed.stream("document order"),
                deduplicate: config.deduplicate,
                held_out,
                observer: self.observer,
            },
        };
        part.prepare(place)
    }
}

fn eos(config: &PrepareConfig, tokenizer: &Tokenizer) -> Result<Option<u32>> {
    if config.append_eos.is_empty() {
        return Ok(None);
    }
    let unknown = || Error::UnknownToken {
        token: config.append_eos.clone(),
        tokenizer: config.tokenizer.clone(),
    };
    tokenizer.token_id(&config.append_eos).map(Some).ok_or_else(unknown)
}

/// Finds files and what identifies them, sorted by that: the order in which they are named, and
/// where they lie, decides nothing.
fn look_at(inputs: &[Input], options: &Options) -> Result<(Vec<InputFile>, Vec<Probe>)> {
    let files = locate(inputs, &options.store_options)?;
    let probes = files.iter().map(probe).collect::<Result<Vec<_>>>()?;
    let mut pairs: Vec<(Probe, InputFile)> = probes.into_iter().zip(files).collect();
    pairs.sort_by(|(a, _), (b, _)| (&a.name, a.blake3).cmp(&(&b.name, b.blake3)));
    let (probes, files) = pairs.into_iter().unzip();
    Ok((files, probes))
}
