//! Which items stand in the sources that a model was trained on.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use terrace_base::Fingerprint;
use terrace_config::ContaminationAction;

use super::{CONTAMINATION_FILE, ItemContamination};
use crate::error::{Error, Result};

/// What is known of an item from the sources that were searched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was looked for in all of them, and no document with text of it is in any.
    Clean {
        /// Whether some had such documents, which were left out.
        dropped: bool,
    },
    /// A source has documents with text of it.
    Flagged,
    /// It was not looked for in all of them: it is not in their lists, or too short.
    Unknown,
}

/// Items of tasks, and which of them stand in some sources.
#[derive(Clone, Debug, Default)]
pub struct Flagged {
    files: usize,
    items: HashMap<(String, Fingerprint), Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Files in which it was looked for, and the number of the last one.
    searched: usize,
    last: usize,
    is_dropped: bool,
    is_flagged: bool,
}

impl Flagged {
    /// Reads what was found in each source: the folder of its edition, or the file in it.
    ///
    /// # Errors
    ///
    /// A file is missing, or a line of it says nothing of an item.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut flagged = Self::default();
        for path in paths {
            let file = if path.is_dir() { path.join(CONTAMINATION_FILE) } else { path.clone() };
            let text = text(path, &file)?;
            flagged.files += 1;
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
                let item = serde_json::from_str(line).map_err(|error| {
                    let reason =
                        format!("is damaged: line {} is no record of an item: {error}", number + 1);
                    Error::Contamination { path: file.clone(), reason }
                })?;
                flagged.add(item);
            }
        }
        Ok(flagged)
    }

    fn add(&mut self, item: ItemContamination) {
        let known = self.items.entry((item.task, item.item)).or_default();
        if item.ngrams > 0 && known.last != self.files {
            // The same text may stand in a task twice, and is then twice in a file.
            known.last = self.files;
            known.searched += 1;
        }
        if item.documents > 0 {
            match item.action {
                ContaminationAction::Drop => known.is_dropped = true,
                ContaminationAction::Flag => known.is_flagged = true,
            }
        }
    }

    /// What is known of an item of a task, by the [hash](super::Content::hash) of its own text.
    #[must_use]
    pub fn standing(&self, task: &str, item: Fingerprint) -> Standing {
        match self.items.get(&(task.to_owned(), item)) {
            Some(known) if known.is_flagged => Standing::Flagged,
            Some(known) if known.searched == self.files => {
                Standing::Clean { dropped: known.is_dropped }
            }
            _ => Standing::Unknown,
        }
    }
}

fn text(path: &Path, file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound if path.is_dir() => {
            let reason = format!(
                "has no {CONTAMINATION_FILE}; prepare the edition from a file with a section \
                 [contamination]"
            );
            Error::Contamination { path: path.to_owned(), reason }
        }
        std::io::ErrorKind::InvalidData => {
            let reason = "is not UTF-8".to_owned();
            Error::Contamination { path: file.to_owned(), reason }
        }
        _ => Error::File { path: file.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_clean_if_every_source_was_searched_for_it() {
        let home = tempfile::tempdir().unwrap();
        let hash = |name: &str| Fingerprint::of_bytes(name.as_bytes());
        let line = |item: &str, action, ngrams, documents| {
            let item = ItemContamination {
                task: "t".to_owned(),
                subset: String::new(),
                index: 0,
                item: hash(item),
                source: "s".to_owned(),
                action,
                ngrams,
                documents,
                share: 0.0,
                closest: None,
            };
            serde_json::to_string(&item).unwrap() + "\n"
        };
        use ContaminationAction::{Drop, Flag};
        let write = |name: &str, lines: &[String]| {
            let folder = home.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(CONTAMINATION_FILE), lines.concat()).unwrap();
            folder
        };
        let one = write(
            "one",
            &[
                line("clean", Flag, 3, 0),
                line("clean", Flag, 3, 0),
                line("flagged", Flag, 3, 1),
                line("dropped", Flag, 3, 0),
                line("short", Flag, 0, 0),
                line("elsewhere", Flag, 3, 0),
            ],
        );
        let two = write(
            "two",
            &[line("clean", Drop, 3, 0), line("flagged", Drop, 3, 0), line("dropped", Drop, 3, 2)],
        );
        let found = Flagged::read(&[one, two.join(CONTAMINATION_FILE)]).unwrap();
        for (name, expected) in [
            ("clean", Standing::Clean { dropped: false }),
            ("flagged", Standing::Flagged),
            ("dropped", Standing::Clean { dropped: true }),
            ("short", Standing::Unknown),
            ("elsewhere", Standing::Unknown),
            ("never seen", Standing::Unknown),
        ] {
            assert_eq!(found.standing("t", hash(name)), expected, "{name}");
        }
        assert_eq!(found.standing("u", hash("clean")), Standing::Unknown);

        let error = Flagged::read(&[home.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("section [contamination]"), "{error}");
        fs::write(two.join(CONTAMINATION_FILE), "\n{}\n").unwrap();
        let error = Flagged::read(&[two]).unwrap_err().to_string();
        assert!(error.contains("contamination.jsonl is damaged: line 2"), "{error}");
    }
}
