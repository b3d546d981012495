//! The text that is prepared, as prepare meets it, and the items that are looked for in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeBinaryArray, RecordBatch, UInt32Array, UInt64Array};
use serde_json::json;
use terrace_base::Seed;
use terrace_prepare::chain::columns::lines_schema;
use terrace_prepare::chain::contamination::{NgramIndex, NgramRules, for_each_word};

use crate::args::BenchPrepareArgs;
use crate::error::CliError;

/// Text in one batch, as prepare cuts it.
const BATCH_BYTES: usize = 2 << 20;
/// Words of an item.
const ITEM_WORDS: usize = 40;

/// Reads the documents, by the order of their paths, up to the limit.
pub(super) fn read(args: &BenchPrepareArgs) -> Result<Vec<String>, CliError> {
    let mut files = Vec::new();
    for input in &args.input {
        find(input, args.extension.as_deref(), &mut files)?;
    }
    let mut texts = Vec::new();
    let mut bytes = 0;
    for file in files {
        let content = std::fs::read(&file).map_err(|error| CliError::read(&file, error))?;
        let Ok(text) = String::from_utf8(content) else { continue };
        if text.trim().is_empty() || bytes + text.len() as u64 > args.limit.0 {
            continue;
        }
        bytes += text.len() as u64;
        texts.push(text);
    }
    if texts.is_empty() {
        let message = "there is no text in --input";
        return Err(CliError::input(message)
            .with_help("name files of UTF-8 text, or another --extension or --limit"));
    }
    Ok(texts)
}

/// The files that a path stands for, in order; links are not followed.
fn find(path: &Path, extension: Option<&str>, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let fail = |error| CliError::read(path, error);
    let entries = std::fs::read_dir(path).map_err(fail)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let (kind, path) = (entry.file_type().map_err(fail)?, entry.path());
        let wanted = extension.is_none_or(|wanted| path.extension().is_some_and(|e| e == wanted));
        if kind.is_dir() {
            find(&path, extension, files)?;
        } else if kind.is_file() && wanted {
            files.push(path);
        }
    }
    Ok(())
}

/// The documents as lines of JSON, in batches.
pub(super) fn batches(texts: &[String]) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let mut begin = 0;
    while begin < texts.len() {
        let mut end = begin + 1;
        let mut bytes = texts[begin].len();
        while end < texts.len() && bytes + texts[end].len() <= BATCH_BYTES {
            bytes += texts[end].len();
            end += 1;
        }
        batches.push(batch(begin, &texts[begin..end]));
        begin = end;
    }
    batches
}

fn batch(first: usize, texts: &[String]) -> RecordBatch {
    let rows = first as u64..(first + texts.len()) as u64;
    let lines = texts.iter().map(|text| Some(json!({ "text": text }).to_string().into_bytes()));
    let columns: [ArrayRef; 3] = [
        Arc::new(UInt32Array::from(vec![0; texts.len()])),
        Arc::new(UInt64Array::from_iter_values(rows)),
        Arc::new(LargeBinaryArray::from_iter(lines)),
    ];
    RecordBatch::try_new(lines_schema(), columns.into()).expect("the columns are the schema's")
}

/// Items that have the words of the documents in an order of their own: every word is known to the
/// index, as in text about what the items are about, and n-grams are not.
pub(super) fn index(texts: &[String], items: u32) -> NgramIndex {
    let mut words = Vec::new();
    for text in texts {
        for_each_word(text, |word| words.push(word.to_owned()));
    }
    let stream = Seed(1).stream("items");
    let word = |i: u64| words[(stream.at(i) % words.len().max(1) as u64) as usize].as_str();
    let count = if words.is_empty() { 0 } else { u64::from(items) };
    let item = |item: u64| {
        let first = item * ITEM_WORDS as u64;
        let passage: Vec<&str> = (first..first + ITEM_WORDS as u64).map(word).collect();
        [passage.join(" ")]
    };
    let passages: Vec<[String; 1]> = (0..count).map(item).collect();
    let rules = NgramRules { ngram: 13, minimum_words: 8, maximum_items: 10 };
    NgramIndex::new(passages.iter().map(|passage| (0, passage.as_slice())), rules)
}
