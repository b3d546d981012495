use std::path::PathBuf;

use terrace_base::format_count;
use terrace_data::{BadRows, Counts, Dropped};

/// What can go wrong while documents become an edition.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has a value that cannot be worked with.
    #[error("{name} is {found}, expected {expected}")]
    Setting {
        /// The key in the configuration.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The token that is to end documents is not in the vocabulary.
    #[error("append_eos is `{token}`, which {} does not have; name a token of it, or \"\"", tokenizer.display())]
    UnknownToken {
        /// The token.
        token: String,
        /// The tokenizer's file.
        tokenizer: PathBuf,
    },
    /// Nothing lies where input was looked for.
    #[error("no input at {place}: {reason}")]
    NoInput {
        /// The path, pattern or URL.
        place: String,
        /// Why nothing was found.
        reason: String,
    },
    /// A file's name does not say what it holds.
    #[error(
        "the format of {file} is not known; name it .parquet, .jsonl, .jsonl.zst, .jsonl.gz or \
         .arrow, or set `format`"
    )]
    UnknownFormat {
        /// The file.
        file: String,
    },
    /// A file cannot be opened or read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// What the operating system or the store says.
        source: std::io::Error,
    },
    /// An object store or a server does not give what it is asked for.
    #[error("cannot read {place}: {problem}; {remedy}")]
    Store {
        /// The URL.
        place: String,
        /// What stands in the way.
        problem: &'static str,
        /// What to do about it.
        remedy: &'static str,
        /// What the store says.
        source: std::io::Error,
    },
    /// A file is cut or damaged.
    #[error("{file} is cut or damaged: {reason}; fetch it again or take it out of the inputs")]
    Damaged {
        /// The file.
        file: String,
        /// What was found.
        reason: String,
    },
    /// A file has no such column.
    #[error("{file} has no column `{column}`; it has {}", available.join(", "))]
    MissingColumn {
        /// The file.
        file: String,
        /// The column asked for.
        column: String,
        /// The columns it has.
        available: Vec<String>,
    },
    /// A column holds no text.
    #[error("column `{column}` of {file} holds {found}, expected strings or binary")]
    ColumnType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
    /// A document cannot be tokenised.
    #[error("row {row} of {file} cannot be tokenised")]
    Tokenize {
        /// The file.
        file: String,
        /// The row, counted from 0.
        row: u64,
        /// Why not.
        source: terrace_tokenizer::Error,
    },
    /// Nothing is left to write.
    #[error("{what} of source `{source_name}` is empty: {}", explain(counts))]
    Empty {
        /// The source.
        source_name: String,
        /// The training or the held-out part.
        what: &'static str,
        /// What became of the rows.
        counts: Box<Counts>,
    },
    /// What lies at the output is no edition, and stays.
    #[error("{} exists and is no edition; choose another output or remove it", path.display())]
    OutputTaken {
        /// The output.
        path: PathBuf,
    },
    /// What lies at the output is an edition of something else.
    #[error("{} holds an edition of {difference}; choose another output or force this one", path.display())]
    OutputDiffers {
        /// The output.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The folder for what does not fit into memory cannot be used.
    #[error("cannot spill to {}", directory.display())]
    Spill {
        /// The folder.
        directory: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A path of `contamination.tasks` leads to no file.
    #[error("contamination.tasks: there is no task file {pattern}")]
    NoTask {
        /// What was looked for.
        pattern: String,
    },
    /// A task file cannot be used.
    #[error(transparent)]
    TaskFile(Box<terrace_config::Error>),
    /// The items of a task cannot be used.
    #[error(transparent)]
    Task(#[from] terrace_eval::Error),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] terrace_tokenizer::Error),
    /// The edition cannot be written or read.
    #[error(transparent)]
    Edition(#[from] terrace_data::Error),
}

/// A result whose error is the preparation's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where the rows went, largest first, so that the remedy is plain.
fn explain(counts: &Counts) -> String {
    let Dropped { empty, too_short, too_long, duplicate, in_held_out, contaminated } =
        counts.dropped;
    let BadRows { invalid_utf8, null, oversized, malformed } = counts.bad;
    let mut reasons = [
        (empty, "empty"),
        (too_short, "shorter than minimum_characters"),
        (too_long, "longer than maximum_characters"),
        (duplicate, "duplicates"),
        (in_held_out, "in the held-out part"),
        (contaminated, "with text of a task"),
        (invalid_utf8, "not UTF-8"),
        (null, "without text"),
        (oversized, "larger than maximum_document_bytes"),
        (malformed, "malformed"),
    ];
    reasons.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    let mut text = format!("{} rows read", format_count(counts.read));
    for (count, reason) in reasons.into_iter().filter(|&(count, _)| count > 0) {
        text.push_str(&format!(", {} {reason}", format_count(count)));
    }
    text
}
