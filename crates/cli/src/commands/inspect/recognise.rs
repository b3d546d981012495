//! What kind of thing a folder is.

use std::path::{Path, PathBuf};

use serde::Serialize;
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_data::MANIFEST_FILE;

use crate::error::CliError;

/// What kind of thing a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Token shards of one source.
    Edition,
    /// A Hugging Face model.
    Model,
    /// A saved training state.
    Checkpoint,
    /// A run with its logs and checkpoints.
    Run,
}

impl Kind {
    /// What people call it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Edition => "edition",
            Self::Model => "Hugging Face model",
            Self::Checkpoint => "checkpoint",
            Self::Run => "run",
        }
    }

    /// What is known when nothing wrong was found.
    pub(super) fn promise(self) -> &'static str {
        match self {
            // A model folder holds no hashes.
            Self::Model => "its tensors are those that config.json calls for",
            Self::Edition | Self::Checkpoint | Self::Run => "everything is as it was written",
        }
    }
}

/// Says what lies at `path`, and the folder to look at: a manifest or a `config.json` stands for
/// the folder that it is in.
///
/// # Errors
///
/// Nothing is there, or nothing that Terrace knows.
pub(super) fn recognise(path: &Path) -> Result<(Kind, PathBuf), CliError> {
    let metadata = std::fs::metadata(path).map_err(|error| CliError::read(path, error))?;
    let folder = if metadata.is_dir() { path } else { path.parent().unwrap_or(path) };
    // `terrace inspect manifest.json` has the empty parent.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let kind = match () {
        () if RunLayout::new(folder).is_run() => Kind::Run,
        () if Checkpoint::is_at(folder) => Kind::Checkpoint,
        () if folder.join(MANIFEST_FILE).is_file() => Kind::Edition,
        () if folder.join("config.json").is_file() => Kind::Model,
        () => {
            let message = format!("{} is nothing that Terrace knows", folder.display());
            return Err(CliError::input(message).at(folder).with_help(
                "give the folder of an edition (with manifest.json), of a Hugging Face model \
                 (config.json), of a checkpoint (state.json) or of a run (config.toml, \
                 checkpoints/)",
            ));
        }
    };
    Ok((kind, folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use terrace_base::fs::{create_dir_all, write_atomic};

    use super::*;

    fn kind_of(files: &[(&str, &str)]) -> Result<Kind, CliError> {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = home.path().join(name);
            create_dir_all(path.parent().unwrap()).unwrap();
            write_atomic(&path, text.as_bytes()).unwrap();
        }
        recognise(home.path()).map(|(kind, _)| kind)
    }

    #[test]
    fn folders_are_recognised_by_what_is_in_them() {
        let edition = ("manifest.json", r#"{"format": "terrace-edition/1"}"#);
        let checkpoint = ("manifest.json", r#"{"format": "terrace-checkpoint/1"}"#);
        assert_eq!(kind_of(&[edition]).unwrap(), Kind::Edition);
        assert_eq!(kind_of(&[checkpoint]).unwrap(), Kind::Checkpoint);
        assert_eq!(kind_of(&[("config.json", "{}")]).unwrap(), Kind::Model);
        let run = [("config.toml", ""), ("checkpoints/.keep", "")];
        assert_eq!(kind_of(&run).unwrap(), Kind::Run);
        // What is damaged is still what it is.
        assert_eq!(kind_of(&[("state.json", "{}")]).unwrap(), Kind::Checkpoint);
        assert_eq!(kind_of(&[("manifest.json", "not JSON")]).unwrap(), Kind::Edition);
    }

    #[test]
    fn anything_else_is_refused_with_what_is_expected() {
        let error = kind_of(&[("notes.txt", "")]).unwrap_err();
        assert_eq!(error.exit().number(), 2);
        assert!(error.help().unwrap().contains("manifest.json"));
        assert_eq!(recognise(Path::new("no/such/place")).unwrap_err().exit().number(), 2);
    }

    #[test]
    fn a_file_stands_for_its_folder() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.json");
        write_atomic(&file, b"{}").unwrap();
        assert_eq!(recognise(&file).unwrap(), (Kind::Model, home.path().to_owned()));
    }
}
