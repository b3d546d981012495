//! Why a command failed, sorted by who can do something about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: ExitCode,
    cause: Cause,
    file: Option<PathBuf>,
    help: Option<String>,
}

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Cause {
    /// A configuration, which knows the place in its file.
    Config(Box<terrace_config::Error>),
    /// Anything else.
    Other(Box<dyn Error + Send + Sync>),
}

impl CliError {
    /// What was asked makes no sense as it stands.
    pub(crate) fn input(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ExitCode::BadInput, cause)
    }

    /// The machine or its disks did not play along.
    pub(crate) fn environment(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ExitCode::Environment, cause)
    }

    /// A file or folder cannot be written.
    pub(crate) fn unwritable(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::environment(format!("cannot write {}: {error}", path.display())).at(path)
    }

    /// The device failed, or is not there.
    pub(crate) fn device(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ExitCode::Device, cause)
    }

    /// The result was below its bar, which is an error where a later step depends on it.
    pub(crate) fn gate(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ExitCode::GateFailed, cause)
    }

    /// A file that was named on the command line cannot be read: a wrong name is the user's, a
    /// failing disk is not.
    pub(crate) fn read(path: &Path, error: io::Error) -> Self {
        let message = format!("cannot read {}: {error}", path.display());
        Self::new(exit_of_io(&error), message).at(path)
    }

    /// Adds the file that the error is about.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// Adds what to do about it.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What the shell is told.
    pub(crate) fn exit(&self) -> ExitCode {
        self.exit
    }

    /// What went wrong.
    pub(crate) fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The file that the error is about.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    fn new(exit: ExitCode, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit, cause: Cause::Other(cause.into()), file: None, help: None }
    }
}

/// The error with everything that caused it, on one line.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Config(error) => f.write_str(&chain(error.as_ref())),
            Cause::Other(error) => f.write_str(&chain(error.as_ref())),
        }
    }
}

impl From<terrace_config::Error> for CliError {
    fn from(error: terrace_config::Error) -> Self {
        let (exit, file) = match &error {
            terrace_config::Error::Read { path, source } => {
                (exit_of_io(source), Some(path.clone()))
            }
            terrace_config::Error::Fact { path, .. } => (ExitCode::BadInput, Some(path.clone())),
            _ => (ExitCode::BadInput, None),
        };
        Self { exit, cause: Cause::Config(Box::new(error)), file, help: None }
    }
}

impl From<terrace_data::Error> for CliError {
    fn from(error: terrace_data::Error) -> Self {
        Self::new(exit_of_data(&error), error)
    }
}

impl From<terrace_prepare::Error> for CliError {
    fn from(error: terrace_prepare::Error) -> Self {
        use terrace_prepare::Error;
        // It knows the place in its file.
        let error = match error {
            Error::TaskFile(error) => return (*error).into(),
            Error::Task(error) => return error.into(),
            error => error,
        };
        let exit = match &error {
            Error::Read { source, .. } => exit_of_io(source),
            Error::Store { .. } | Error::Write { .. } | Error::Spill { .. } => {
                ExitCode::Environment
            }
            Error::Edition(error) => exit_of_data(error),
            _ => ExitCode::BadInput,
        };
        Self::new(exit, error)
    }
}

impl From<terrace_model::Error> for CliError {
    fn from(error: terrace_model::Error) -> Self {
        let exit = exit_of_model(&error);
        Self::new(exit, error)
    }
}

impl From<terrace_upscale::write::Error> for CliError {
    fn from(error: terrace_upscale::write::Error) -> Self {
        use terrace_upscale::write::Error;
        let exit = match &error {
            Error::Model(error) => exit_of_model(error),
            Error::Io { .. } => ExitCode::Environment,
            _ => ExitCode::BadInput,
        };
        Self::new(exit, error)
    }
}

impl From<terrace_quantize::Error> for CliError {
    fn from(error: terrace_quantize::Error) -> Self {
        use terrace_quantize::Error;
        let exit = match &error {
            Error::Model(error) => exit_of_model(error),
            Error::Data(error) => exit_of_data(error),
            Error::Read { source, .. } => exit_of_io(source),
            Error::Write { .. } => ExitCode::Environment,
            _ => ExitCode::BadInput,
        };
        Self::new(exit, error)
    }
}

impl From<terrace_eval::Error> for CliError {
    fn from(error: terrace_eval::Error) -> Self {
        use terrace_eval::Error;
        let exit = match &error {
            Error::File { source, .. } => exit_of_io(source),
            Error::Model(terrace_completion::Error::Device(_)) => ExitCode::Device,
            Error::Sandbox(_) => ExitCode::Environment,
            _ => ExitCode::BadInput,
        };
        Self::new(exit, error)
    }
}

impl From<terrace_upscale::analysis::Error> for CliError {
    fn from(error: terrace_upscale::analysis::Error) -> Self {
        let exit = match &error {
            terrace_upscale::analysis::Error::Data(error) => exit_of_data(error),
            _ => ExitCode::BadInput,
        };
        Self::new(exit, error)
    }
}

fn exit_of_model(error: &terrace_model::Error) -> ExitCode {
    match error {
        terrace_model::Error::Io { source, .. } => exit_of_io(source),
        terrace_model::Error::NoSpace { .. } => ExitCode::Environment,
        terrace_model::Error::Device { .. } => ExitCode::Device,
        _ => ExitCode::BadInput,
    }
}

fn exit_of_data(error: &terrace_data::Error) -> ExitCode {
    match error {
        terrace_data::Error::Read { source, .. } => exit_of_io(source),
        terrace_data::Error::Write { .. } => ExitCode::Environment,
        _ => ExitCode::BadInput,
    }
}

/// A name that leads nowhere is bad input; a disk that fails is not.
pub(crate) fn exit_of_io(error: &io::Error) -> ExitCode {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidData => ExitCode::BadInput,
        _ => ExitCode::Environment,
    }
}

/// Writes an error and its causes on one line; a cause that an error already quotes is not
/// repeated.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the shard")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the shard: {0}")]
    struct Quoting(#[source] io::Error);

    #[test]
    fn causes_are_told_once() {
        let disk = || io::Error::other("the disk is on fire");
        assert_eq!(chain(&Outer(disk())), "cannot read the shard: the disk is on fire");
        assert_eq!(chain(&Quoting(disk())), "cannot read the shard: the disk is on fire");
    }

    #[test]
    fn a_wrong_name_is_bad_input_and_a_broken_disk_is_not() {
        let path = Path::new("a.toml");
        let missing = CliError::read(path, io::ErrorKind::NotFound.into());
        assert_eq!(missing.exit(), ExitCode::BadInput);
        assert_eq!(missing.file(), Some(path));
        assert_eq!(CliError::read(path, io::Error::other("no")).exit(), ExitCode::Environment);
        assert_eq!(CliError::gate("below the bar").exit().number(), 1);
        assert_eq!(CliError::device("gone").exit().number(), 4);
    }
}
