//! The logs of a run directory.

use std::path::PathBuf;

use serde::Serialize;
use terrace_base::fs::AppendFile;
use terrace_checkpoint::{LogPositions, RunLayout};

use crate::Error;

/// `metrics.jsonl`, `decisions.jsonl` and `journal.jsonl`, open for appending.
pub(crate) struct Logs {
    metrics: Log,
    decisions: Log,
    journal: Log,
}

struct Log {
    path: PathBuf,
    file: AppendFile,
}

impl Logs {
    /// Opens the logs and cuts them to `positions`, so that what a killed process wrote after its
    /// last checkpoint is not there twice.
    pub(crate) fn open(layout: &RunLayout, positions: &LogPositions) -> Result<Self, Error> {
        Ok(Self {
            metrics: Log::open(layout.metrics(), positions)?,
            decisions: Log::open(layout.decisions(), positions)?,
            journal: Log::open(layout.journal(), positions)?,
        })
    }

    pub(crate) fn metric(&mut self, line: &impl Serialize) -> Result<(), Error> {
        self.metrics.append(line)
    }

    pub(crate) fn decision(&mut self, line: &impl Serialize) -> Result<(), Error> {
        self.decisions.append(line)
    }

    pub(crate) fn journal(&mut self, line: &impl Serialize) -> Result<(), Error> {
        self.journal.append(line)
    }

    /// Cuts metrics and decisions to `positions`, because the run goes back to where they were so
    /// long. The journal stays: it tells what happened.
    pub(crate) fn go_back(&mut self, positions: &LogPositions) -> Result<(), Error> {
        for log in [&mut self.metrics, &mut self.decisions] {
            *log = Log::open(log.path.clone(), positions)?;
        }
        Ok(())
    }

    /// Brings all lines to disk; gives the lengths that belong to the state as it is now.
    pub(crate) fn positions(&mut self) -> Result<LogPositions, Error> {
        let mut positions = LogPositions::new();
        for log in [&mut self.metrics, &mut self.decisions, &mut self.journal] {
            let result = log.file.sync();
            result.map_err(|source| Error::Log { path: log.path.clone(), source })?;
            let name = log.path.file_name().expect("logs have names").to_string_lossy();
            positions = positions.with(&name, log.file.length());
        }
        Ok(positions)
    }
}

impl Log {
    fn open(path: PathBuf, positions: &LogPositions) -> Result<Self, Error> {
        let name = path.file_name().expect("logs have names").to_string_lossy().into_owned();
        let length = positions.of(&name).unwrap_or(0);
        match AppendFile::open(&path, Some(length)) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(Error::Log { path, source }),
        }
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(line).expect("records always serialise");
        let result = self.file.append_line(&text);
        result.map_err(|source| Error::Log { path: self.path.clone(), source })
    }
}
