//! What a run has followed: every configuration, and how it came to be followed.
//!
//! ```text
//! history/0000.toml    a complete run file, as it was resolved
//! history/0000.json    the event, where the run stood, what changed; written last
//! ```
//!
//! `config.toml` is for people to read and to edit; these copies are how an edit is noticed, and
//! what it is compared with. The logs of a run are cut back to its checkpoint when it resumes; this
//! is not, so an entry that the cut took out of the logs is entered again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use terrace_base::{Fingerprint, Tokens, fs};
use terrace_checkpoint::RunLayout;
use terrace_config::{Change, Loaded, RunConfig};
use terrace_policy::batch::Decision;

use crate::Error;
use crate::logs::Logs;

/// One configuration that a run has followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its place in the history, counted from zero.
    pub number: u64,
    /// What brought it: `start`, `init`, `branch`, `mix` or `change`.
    pub event: String,
    /// The tokens seen then.
    pub tokens_seen: Tokens,
    /// What differs from the entry before, or from the parent.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Where the weights came from, if from another run or a folder.
    #[serde(default)]
    pub parent: Option<Parent>,
    /// The line of `decisions.jsonl` that belongs to it.
    #[serde(default)]
    pub decision: Option<Decision>,
    /// The hash of the run file.
    pub config: Fingerprint,
}

/// Where a run's weights came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run directory, or the folder of a model.
    pub path: PathBuf,
    /// The tokens that the parent had seen.
    pub tokens_seen: Option<Tokens>,
    /// The digest of the parent's state there.
    pub state_digest: Option<Fingerprint>,
}

impl Parent {
    /// Whether it is a run, whose weights were written into the new run, and no folder of weights.
    #[must_use]
    pub fn is_run(&self) -> bool {
        self.tokens_seen.is_some()
    }
}

/// What brings a new entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Occasion {
    pub(crate) event: &'static str,
    pub(crate) tokens_seen: Tokens,
    pub(crate) changes: Vec<Change>,
    pub(crate) parent: Option<Parent>,
    pub(crate) decision: Option<Decision>,
}

/// The history of a run.
#[derive(Clone, Debug)]
pub struct History {
    layout: RunLayout,
    entries: Vec<HistoryEntry>,
}

impl History {
    /// Reads the history of the run in `layout`; empty where a run was started without one.
    ///
    /// # Errors
    ///
    /// An entry cannot be read.
    pub fn open(layout: &RunLayout) -> Result<Self, Error> {
        let mut entries = Vec::new();
        loop {
            let path = file(layout, entries.len() as u64, "json");
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                Err(error) => return Err(Error::History { path, reason: error.to_string() }),
            };
            let entry = serde_json::from_str(&text)
                .map_err(|error| Error::History { path, reason: error.to_string() })?;
            entries.push(entry);
        }
        Ok(Self { layout: layout.clone(), entries })
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    /// The tokens that had been seen when the run began: those of its parent, if it is a branch.
    #[must_use]
    pub fn began_at(&self) -> Tokens {
        self.entries.first().map_or(Tokens(0), |first| first.tokens_seen)
    }

    /// The run file that the run has followed last.
    #[must_use]
    pub fn in_force_path(&self) -> PathBuf {
        match self.entries.last() {
            Some(entry) => file(&self.layout, entry.number, "toml"),
            None => self.layout.config(),
        }
    }

    /// The configuration that the run has followed last.
    ///
    /// # Errors
    ///
    /// The copy was changed or cannot be read.
    pub fn in_force(&self) -> Result<Loaded<RunConfig>, Error> {
        self.in_force_with(&[])
    }

    /// As [`in_force`](Self::in_force), with values in place of the file's.
    ///
    /// # Errors
    ///
    /// As [`in_force`](Self::in_force), or a value makes no sense.
    pub fn in_force_with(
        &self,
        overrides: &[(String, String)],
    ) -> Result<Loaded<RunConfig>, Error> {
        let path = self.in_force_path();
        if let Some(entry) = self.entries.last() {
            let found = Fingerprint::of_file(&path).map_err(|error| Error::History {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            if found != entry.config {
                let reason = "it was changed after it was written".to_owned();
                return Err(Error::History { path, reason });
            }
        }
        let mut loaded = terrace_config::load(&path, overrides)?;
        self.settle(&mut loaded.config);
        Ok(loaded)
    }

    /// Sets the paths that are where the run is, which may have been moved since, and which another
    /// run file knows nothing of.
    pub fn settle(&self, config: &mut RunConfig) {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        config.run_directory = absolute(self.layout.root.clone());
        if self.layout.initial().is_dir() {
            config.model.path = Some(absolute(self.layout.initial()));
        }
    }

    /// Adds an entry.
    pub(crate) fn record(&mut self, occasion: Occasion, config: &RunConfig) -> Result<(), Error> {
        let number = self.entries.len() as u64;
        let text = config.to_toml()?;
        let entry = HistoryEntry {
            number,
            event: occasion.event.to_owned(),
            tokens_seen: occasion.tokens_seen,
            changes: occasion.changes,
            parent: occasion.parent,
            decision: occasion.decision,
            config: Fingerprint::of_bytes(text.as_bytes()),
        };
        let json = serde_json::to_string_pretty(&entry).expect("entries always serialise");
        write(file(&self.layout, number, "toml"), &text)?;
        write(file(&self.layout, number, "json"), &json)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Enters into the logs what they do not have, and says what that is.
    pub(crate) fn catch_up(&self, logs: &mut Logs) -> Result<Vec<HistoryEntry>, Error> {
        let text = std::fs::read_to_string(self.layout.journal()).unwrap_or_default();
        let known: BTreeSet<u64> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| line["details"]["history"].as_u64())
            .collect();
        let pending = self.entries.iter().filter(|entry| !known.contains(&entry.number));
        let pending: Vec<HistoryEntry> = pending.cloned().collect();
        for entry in &pending {
            logs.journal(&json!({"event": entry.event, "details": {
                "history": entry.number,
                "tokens_seen": entry.tokens_seen,
                "changes": entry.changes,
                "parent": entry.parent,
                "version": env!("CARGO_PKG_VERSION"),
            }}))?;
            if let Some(decision) = &entry.decision {
                logs.decision(decision)?;
            }
        }
        Ok(pending)
    }
}

/// Writes a file of a run directory, whole or not at all.
pub(crate) fn write(path: PathBuf, text: &str) -> Result<(), Error> {
    fs::write_atomic(&path, text.as_bytes()).map_err(|source| Error::Log { path, source })
}

fn file(layout: &RunLayout, number: u64, ending: &str) -> PathBuf {
    layout.history().join(format!("{number:04}.{ending}"))
}
