//! The logs of a run directory.

use std::path::{Path, PathBuf};

use serde::Serialize;
use terrace_base::Tokens;
use terrace_base::fs::{AppendFile, AppendHandle};
use terrace_checkpoint::{LogPositions, RunLayout};

use crate::{Error, EvaluationRecord};

/// `metrics.jsonl`, `decisions.jsonl`, `journal.jsonl` and, where there are evaluations,
/// `evaluations.jsonl`, open for appending.
pub(crate) struct Logs {
    metrics: Log,
    decisions: Log,
    journal: Log,
    evaluations: Option<Log>,
}

/// Which evaluations a log keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evaluations {
    /// Whether further ones may come.
    pub(crate) wanted: bool,
    /// The tokens seen of the state that the run goes on from: an evaluation of it, which comes after it
    /// was saved, is none of a later one.
    pub(crate) at: Option<Tokens>,
}

struct Log {
    path: PathBuf,
    file: AppendFile,
}

impl Logs {
    /// Opens the logs and cuts them to `positions`, so that what a killed process wrote after its
    /// last checkpoint is not there twice.
    pub(crate) fn open(
        layout: &RunLayout,
        positions: &LogPositions,
        evaluations: Evaluations,
    ) -> Result<Self, Error> {
        let path = layout.evaluations();
        let has_evaluations = evaluations.wanted || path.exists();
        let open = || Log::open_evaluations(path, positions, evaluations.at);
        Ok(Self {
            metrics: Log::open(layout.metrics(), positions)?,
            decisions: Log::open(layout.decisions(), positions)?,
            journal: Log::open(layout.journal(), positions)?,
            evaluations: has_evaluations.then(open).transpose()?,
        })
    }

    pub(crate) fn evaluation(&mut self, line: &impl Serialize) -> Result<(), Error> {
        self.evaluations.as_mut().map_or(Ok(()), |log| log.append(line))
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

    /// Cuts metrics, decisions and evaluations to `positions`, because the run goes back to where they
    /// were so long, to the state of `at` tokens. The journal stays: it tells what happened.
    pub(crate) fn go_back(&mut self, positions: &LogPositions, at: Tokens) -> Result<(), Error> {
        for log in [&mut self.metrics, &mut self.decisions] {
            *log = Log::open(log.path.clone(), positions)?;
        }
        if let Some(log) = &mut self.evaluations {
            *log = Log::open_evaluations(log.path.clone(), positions, Some(at))?;
        }
        Ok(())
    }

    /// The lengths that belong to the state as it is now, and the lines that are to be brought to disk
    /// before anything that counts them.
    pub(crate) fn positions(&mut self) -> Result<(LogPositions, Unsynced), Error> {
        let (mut positions, mut files) = (LogPositions::new(), Vec::new());
        let logs = [&self.metrics, &self.decisions, &self.journal];
        for log in logs.into_iter().chain(&self.evaluations) {
            let handle = log.file.handle();
            let handle = handle.map_err(|source| Error::Log { path: log.path.clone(), source })?;
            files.push((log.path.clone(), handle));
            let name = log.path.file_name().expect("logs have names").to_string_lossy();
            positions = positions.with(&name, log.file.length());
        }
        Ok((positions, Unsynced(files)))
    }
}

/// Logs whose lines the operating system has, but perhaps not the disk.
pub(crate) struct Unsynced(Vec<(PathBuf, AppendHandle)>);

impl Unsynced {
    /// Brings them to disk.
    pub(crate) fn sync(self) -> Result<(), Error> {
        self.0.into_iter().try_for_each(|(path, handle)| {
            handle.sync().map_err(|source| Error::Log { path, source })
        })
    }
}

impl Log {
    fn open(path: PathBuf, positions: &LogPositions) -> Result<Self, Error> {
        let length = position(&path, positions);
        Self::cut(path, length)
    }

    /// Keeps, of what is behind the position, the evaluations of the state that was saved with it.
    fn open_evaluations(
        path: PathBuf,
        positions: &LogPositions,
        at: Option<Tokens>,
    ) -> Result<Self, Error> {
        let mut length = position(&path, positions);
        let text = std::fs::read(&path).unwrap_or_default();
        let behind = text.get(length as usize..).unwrap_or_default();
        for line in behind.split_inclusive(|byte| *byte == b'\n') {
            let record = serde_json::from_slice::<EvaluationRecord>(line).ok();
            let is_whole = line.ends_with(b"\n");
            if !(is_whole && record.is_some_and(|record| Some(record.tokens_seen) == at)) {
                break;
            }
            length += line.len() as u64;
        }
        Self::cut(path, length)
    }

    fn cut(path: PathBuf, length: u64) -> Result<Self, Error> {
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

/// How long a log was when the state was saved.
fn position(path: &Path, positions: &LogPositions) -> u64 {
    let name = path.file_name().expect("logs have names").to_string_lossy();
    positions.of(&name).unwrap_or(0)
}
