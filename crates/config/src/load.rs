//! From files and overrides to a checked configuration that knows where each value came from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::check;
use crate::de;
use crate::error::{Diagnostic, Error};
use crate::node::{
    Document, Entry, KeyPath, Node, Origin, SourceText, Value, diagnostic, folder_of,
};
use crate::path::normalize;
use crate::prepare::PrepareConfig;
use crate::run::RunConfig;
use crate::simulate::SimulateConfig;
use crate::task::TaskConfig;

/// A configuration together with where its values came from.
#[derive(Clone, Debug)]
pub struct Loaded<C = RunConfig> {
    /// The values, checked, all paths absolute.
    pub config: C,
    pub(crate) document: Document,
}

/// Reads a run file, what it extends, and the `--set path=value` overrides.
///
/// Paths in a file are relative to that file; in an override, to the current folder.
///
/// # Errors
///
/// A file cannot be read or is not TOML; a key is unknown or missing; a value is of the wrong type
/// or impossible.
pub fn load(path: &Path, overrides: &[(String, String)]) -> Result<Loaded<RunConfig>, Error> {
    load_checked(path, overrides, check::run)
}

/// Reads the run file of a recorded run with another `[batch]` section, for [`load`]'s result.
///
/// The section of `controller` replaces that of `run` as a whole; without a file it stays. Overrides
/// come last.
///
/// # Errors
///
/// As [`load`]; or the file says anything else than `[batch]`.
pub fn load_controller(
    run: &Path,
    controller: Option<&Path>,
    overrides: &[(String, String)],
) -> Result<Loaded<RunConfig>, Error> {
    let mut loader = Loader::default();
    let mut root = loader.read_file(run, None)?;
    if let Some(controller) = controller {
        let node = loader.read_file(controller, None)?;
        loader.only_batch(&node)?;
        root.remove("batch");
        root.merge(node);
    }
    for (path, value) in overrides {
        loader.set(&mut root, path, value)?;
    }
    checked(Document { texts: loader.texts, root }, check::run)
}

/// Reads a file of `terrace simulate`, in the same way as [`load`].
///
/// # Errors
///
/// As [`load`].
pub fn load_simulate(
    path: &Path,
    overrides: &[(String, String)],
) -> Result<Loaded<SimulateConfig>, Error> {
    load_checked(path, overrides, check::simulate)
}

/// Reads a file of `terrace prepare`, in the same way as [`load`].
///
/// # Errors
///
/// As [`load`].
pub fn load_prepare(
    path: &Path,
    overrides: &[(String, String)],
) -> Result<Loaded<PrepareConfig>, Error> {
    load_checked(path, overrides, check::prepare)
}

/// Reads the file of an evaluation task, in the same way as [`load`].
///
/// # Errors
///
/// As [`load`]; a template or a regular expression that cannot be read is one too.
pub fn load_task(path: &Path, overrides: &[(String, String)]) -> Result<Loaded<TaskConfig>, Error> {
    load_checked(path, overrides, check::task)
}

pub(crate) fn load_checked<C: DeserializeOwned + Serialize>(
    path: &Path,
    overrides: &[(String, String)],
    check: impl FnOnce(&C, &Document) -> Vec<Diagnostic>,
) -> Result<Loaded<C>, Error> {
    let mut loader = Loader::default();
    let mut root = loader.read_file(path, None)?;
    for (path, value) in overrides {
        loader.set(&mut root, path, value)?;
    }
    checked(Document { texts: loader.texts, root }, check)
}

fn checked<C: DeserializeOwned + Serialize>(
    document: Document,
    check: impl FnOnce(&C, &Document) -> Vec<Diagnostic>,
) -> Result<Loaded<C>, Error> {
    let config = de::read(&document).map_err(|diagnostic| Error::Invalid(vec![diagnostic]))?;
    let problems = check(&config, &document);
    if problems.is_empty() {
        Ok(Loaded { config, document })
    } else {
        Err(Error::Invalid(problems))
    }
}

#[derive(Default)]
struct Loader {
    texts: Vec<SourceText>,
    /// The files being read, outermost first: a file that extends one of them closes a circle.
    open: Vec<PathBuf>,
}

impl Loader {
    fn read_file(&mut self, path: &Path, extended_by: Option<&Origin>) -> Result<Node, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| match extended_by {
            Some(origin) => {
                self.invalid(origin, format!("cannot read {}: {source}", path.display()))
            }
            None => Error::Read { path: path.to_owned(), source },
        })?;
        let identity = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let (true, Some(origin)) = (self.open.contains(&identity), extended_by) {
            return Err(self.invalid(origin, format!("{} extends itself", path.display())));
        }
        let index = self.texts.len();
        self.texts.push(SourceText {
            name: path.to_owned(),
            base: folder_of(path),
            text: Arc::from(text.as_str()),
            is_override: false,
        });
        let table = DeTable::parse(&text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            self.invalid(&Origin { text: index, span }, error.message().to_lowercase_first())
        })?;
        let mut root = Node::from_table(&table, index, 0);
        root.origin.span = 0..0;
        let Some(extends) = root.remove("extends") else {
            return Ok(root);
        };

        self.open.push(identity);
        let mut merged: Option<Node> = None;
        for (base, origin) in self.bases(&extends)? {
            let node = self.read_file(&base, Some(&origin))?;
            match &mut merged {
                Some(merged) => merged.merge(node),
                None => merged = Some(node),
            }
        }
        self.open.pop();
        match merged {
            Some(mut merged) => {
                merged.merge(root);
                Ok(merged)
            }
            None => Ok(root),
        }
    }

    /// A controller is not another run.
    fn only_batch(&self, node: &Node) -> Result<(), Error> {
        let Value::Table(entries) = &node.value else { return Ok(()) };
        match entries.iter().find(|entry| entry.key != "batch") {
            None => Ok(()),
            Some(entry) => {
                let message = format!("`{}`: a controller is only a [batch] section", entry.key);
                Err(self.invalid(&entry.key_origin, message))
            }
        }
    }

    fn bases(&self, extends: &Node) -> Result<Vec<(PathBuf, Origin)>, Error> {
        let one = |node: &Node| match &node.value {
            Value::String(written) => {
                let name = &self.texts[node.origin.text].name;
                let folder = name.parent().unwrap_or(Path::new(""));
                Ok((normalize(&folder.join(written)), node.origin.clone()))
            }
            _ => {
                let message = "`extends`: expected a path, or an array of paths, in quotes";
                Err(self.invalid(&node.origin, message.to_owned()))
            }
        };
        match &extends.value {
            Value::Array(nodes) => nodes.iter().map(one).collect(),
            _ => one(extends).map(|base| vec![base]),
        }
    }

    fn set(&mut self, root: &mut Node, path: &str, value: &str) -> Result<(), Error> {
        let index = self.texts.len();
        let text = format!("{path}={value}");
        self.texts.push(SourceText {
            name: PathBuf::from("--set"),
            base: folder_of(Path::new("")),
            text: Arc::from(text.as_str()),
            is_override: true,
        });
        let key_origin = Origin { text: index, span: 0..path.len() };
        let keys = keys_of(path).ok_or_else(|| {
            let message = format!("`{path}` is not a path of keys such as stages.0.budget_tokens");
            self.invalid(&key_origin, message)
        })?;
        let offset = path.len() + 1;
        let node = match DeValue::parse(value) {
            Ok(parsed) => Node::from_value(&parsed, index, offset),
            // `--set device=cuda` needs no quotes.
            Err(_) => Node {
                value: Value::String(value.to_owned()),
                origin: Origin { text: index, span: offset..text.len() },
            },
        };
        insert(root, &keys, &key_origin, node).map_err(|message| self.invalid(&key_origin, message))
    }

    fn invalid(&self, origin: &Origin, message: String) -> Error {
        Error::Invalid(vec![diagnostic(&self.texts, origin, message, None)])
    }
}

/// Splits a dotted path as TOML would, quoted keys included.
fn keys_of(path: &str) -> Option<Vec<String>> {
    let text = format!("{path} = 0");
    let table = DeTable::parse(&text).ok()?;
    let mut node = &Node::from_table(&table, 0, 0);
    let mut keys = Vec::new();
    while let Value::Table(entries) = &node.value {
        let [entry] = entries.as_slice() else {
            return None;
        };
        keys.push(entry.key.clone());
        node = &entry.node;
    }
    Some(keys)
}

fn insert(root: &mut Node, keys: &[String], origin: &Origin, node: Node) -> Result<(), String> {
    let [key, rest @ ..] = keys else {
        *root = node;
        return Ok(());
    };
    let child = match &mut root.value {
        Value::Array(nodes) => {
            let count = nodes.len();
            key.parse::<usize>().ok().and_then(|index| nodes.get_mut(index)).ok_or_else(|| {
                format!("`{key}` is not a place in an array of {count}, counted from 0")
            })?
        }
        Value::Table(entries) => {
            let position = entries.iter().position(|entry| entry.key == *key);
            let position = position.unwrap_or_else(|| {
                let value = Value::Table(Vec::new());
                let node = Node { value, origin: origin.clone() };
                entries.push(Entry { key: key.clone(), key_origin: origin.clone(), node });
                entries.len() - 1
            });
            // An unknown key is then reported where it was written: in the override.
            entries[position].key_origin = origin.clone();
            &mut entries[position].node
        }
        _ => return Err(format!("`{key}` is inside a value that is no table")),
    };
    insert(child, rest, origin, node)
}

trait LowercaseFirst {
    fn to_lowercase_first(&self) -> String;
}

impl LowercaseFirst for str {
    fn to_lowercase_first(&self) -> String {
        let mut chars = self.chars();
        chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
    }
}

impl<C> Loaded<C> {
    /// The files that the configuration was read from, the main one first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.document.texts.iter().filter(|text| !text.is_override).map(|text| text.name.as_path())
    }

    pub(crate) fn diagnostic(
        &self,
        path: &KeyPath,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        self.document.diagnostic(path, message, help)
    }
}
