//! Running the command as a person does, and looking at what comes out.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a command left behind.
pub(crate) struct Outcome {
    /// The exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What a program reads.
    pub(crate) stdout: String,
    /// What a person reads.
    pub(crate) stderr: String,
}

impl Outcome {
    /// The JSON object on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON object: {error}\n{self}"))
    }

    /// Fails the test unless the command ended so.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n{self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Runs `terrace` in the root of the repository.
pub(crate) fn terrace<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Outcome {
    terrace_in(&repository(), arguments)
}

/// Runs `terrace` in a folder.
pub(crate) fn terrace_in<S: AsRef<std::ffi::OsStr>>(
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Outcome {
    terrace_with(folder, arguments, &[])
}

/// As [`terrace_in`], with environment variables of its own.
pub(crate) fn terrace_with<S: AsRef<std::ffi::OsStr>>(
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
    environment: &[(&str, &str)],
) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_terrace"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("TERRACE_LOG")
        .envs(environment.iter().copied())
        .output()
        .expect("the binary can be started");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the crate lies in the repository")
}

/// The files in a folder and below it whose names end so, in order.
pub(crate) fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Changes one bit in the middle of a file.
pub(crate) fn flip_a_bit(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the file can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("the file can be written");
}

/// Writes documents about counting, and the file `<name>.toml` that prepares them: 200 to train on,
/// one of them twice, 20 of them held out, and one row without text.
pub(crate) fn documents(home: &Path, name: &str) {
    let tokenizer = repository().join("crates/tokenizer/tests/fixtures/byte_level.json");
    let row = |index: usize, text: Option<String>| {
        serde_json::json!({"id": index, "text": text}).to_string()
    };
    let text =
        |index: usize| Some(format!("{name} {index} counts: {}.", "and so on ".repeat(index % 7)));
    let mut rows: Vec<String> = (0..200).map(|index| row(index, text(index))).collect();
    rows.extend([row(200, text(3)), row(201, None)]);
    let held_out: Vec<String> = (0..20).map(|index| row(index, text(index))).collect();
    let write = |ending: &str, text: String| {
        std::fs::write(home.join(format!("{name}{ending}")), text)
            .expect("the file can be written");
    };
    write(".jsonl", rows.join("\n"));
    write("-held-out.jsonl", held_out.join("\n"));
    write(
        ".toml",
        format!(
            "source = {name:?}\ntokenizer = {tokenizer:?}\nsequence_length = 32\n\
             partitions = 2\nid_column = \"id\"\n\
             [[inputs]]\npaths = [\"{name}.jsonl\"]\n\
             [[held_out]]\npaths = [\"{name}-held-out.jsonl\"]\n"
        ),
    );
}

const SMALL_RUN: &str = r#"
run_directory = "run"
[model.architecture]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 641
max_position_embeddings = 32
rms_norm_eps = 1e-6
rope_theta = 10000.0
[training]
sequence_length = 32
micro_batch_sequences = 2
[optimizer]
learning_rate = 1e-3
[sources.apples]
edition = "apples"
prepare = "apples.toml"
[sources.pears]
edition = "pears"
prepare = "pears.toml"
"#;

/// Writes `run.toml`, a run of a tiny model over two sources that are prepared on the way; `rest`
/// is what is particular about it: its name, batch and stages.
pub(crate) fn small_run(home: &Path, rest: &str) {
    documents(home, "apples");
    documents(home, "pears");
    let tokenizer = repository().join("crates/tokenizer/tests/fixtures/byte_level.json");
    let small = SMALL_RUN.replace("[model.", &format!("model.tokenizer = {tokenizer:?}\n[model."));
    let write = |name: &str, text: &str| {
        std::fs::write(home.join(name), text).expect("the file can be written");
    };
    write("small.toml", &small);
    write("run.toml", &format!("extends = \"small.toml\"\n{rest}"));
}
