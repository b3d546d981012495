//! What the process was started with: read once, here, and handed down.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// The parts of the environment that Terrace looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// The command line, the program's name first.
    pub(crate) arguments: Vec<OsString>,
    /// `TERRACE_LOG`: what is logged, as `tracing-subscriber` writes filters.
    pub(crate) log_filter: Option<String>,
    /// `NO_COLOR` is set and not empty.
    pub(crate) no_colour: bool,
    /// `TERM` is `dumb`.
    pub(crate) dumb_terminal: bool,
    /// Whether a person types into stdin.
    pub(crate) stdin_is_terminal: bool,
    /// Whether a person sees stdout.
    pub(crate) stdout_is_terminal: bool,
    /// Whether a person sees stderr.
    pub(crate) stderr_is_terminal: bool,
    /// The folders of `PATH`.
    pub(crate) program_folders: Vec<PathBuf>,
    /// The folders of `LD_LIBRARY_PATH`.
    pub(crate) library_folders: Vec<PathBuf>,
    /// The folder for temporary files.
    pub(crate) temporary_folder: PathBuf,
    /// Keys and endpoints of object stores, by the names that their own tools use.
    pub(crate) object_store_options: Vec<(String, String)>,
}

/// How the variables begin that object stores are configured by.
const OBJECT_STORE_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn capture() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folders = |name: &str| match std::env::var_os(name) {
            Some(list) => std::env::split_paths(&list).collect(),
            None => Vec::new(),
        };
        Self {
            arguments: std::env::args_os().collect(),
            log_filter: text("TERRACE_LOG"),
            no_colour: text("NO_COLOR").is_some(),
            dumb_terminal: text("TERM").is_some_and(|term| term == "dumb"),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            program_folders: folders("PATH"),
            library_folders: folders("LD_LIBRARY_PATH"),
            temporary_folder: std::env::temp_dir(),
            object_store_options: object_store_options(),
        }
    }

    /// Where the shell would find a program.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.program_folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }
}

fn object_store_options() -> Vec<(String, String)> {
    let readable = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut options: Vec<_> = readable
        .filter(|(name, _)| OBJECT_STORE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    options.sort();
    options
}
