//! The items of a task, from the files that hold them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use crate::csv;
use crate::error::{Error, Result};

/// An item as its file has it: fields by name.
pub(crate) type Fields = Map<String, Value>;

/// The items of all files that the paths stand for, in the order of the paths and of the files' names.
pub(crate) fn load(task: &str, paths: &[String], subset: Option<&str>) -> Result<Vec<Fields>> {
    let mut items = Vec::new();
    for path in paths {
        let path = path.replace("{subset}", subset.unwrap_or_default());
        for file in files(task, &path)? {
            items.extend(read(&file)?);
        }
    }
    Ok(items)
}

fn files(task: &str, pattern: &str) -> Result<Vec<PathBuf>> {
    if Path::new(pattern).is_file() {
        return Ok(vec![pattern.into()]);
    }
    let missing = || Error::NoFile { task: task.to_owned(), pattern: pattern.to_owned() };
    let found = glob::glob(pattern).map_err(|_| missing())?;
    let mut files: Vec<PathBuf> =
        found.filter_map(Result::ok).filter(|path| path.is_file()).collect();
    files.sort();
    if files.is_empty() { Err(missing()) } else { Ok(files) }
}

fn read(path: &Path) -> Result<Vec<Fields>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (name, gzip) = match name.strip_suffix(".gz") {
        Some(name) => (name.to_owned(), true),
        None => (name, false),
    };
    let ending = name.rsplit('.').next().unwrap_or_default();
    let damaged = |reason: String| Error::Items { path: path.to_owned(), reason };
    match (ending, gzip) {
        ("json" | "jsonl" | "ndjson", _) => json(&bytes(path, gzip)?).map_err(damaged),
        ("csv", _) => {
            let text = String::from_utf8(bytes(path, gzip)?)
                .map_err(|_| damaged("is not UTF-8".to_owned()))?;
            csv::read(&text).map_err(damaged)
        }
        ("parquet", false) => parquet(open(path)?).map_err(damaged),
        ("arrow" | "feather", false) => arrow(path).map_err(|error| damaged(error.to_string())),
        _ => Err(damaged(
            "its name ends in none of .json, .jsonl, .ndjson, .csv (or these with .gz), .parquet and \
             .arrow"
                .to_owned(),
        )),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn bytes(path: &Path, gzip: bool) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = open(path)?;
    let read = if gzip {
        flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes)
    } else {
        file.read_to_end(&mut bytes)
    };
    read.map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Objects one after the other, or arrays of objects.
fn json(bytes: &[u8]) -> Result<Vec<Fields>, String> {
    let mut items = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
        match value.map_err(|error| format!("is no JSON: {error}"))? {
            Value::Object(item) => items.push(item),
            Value::Array(values) => {
                for value in values {
                    match value {
                        Value::Object(item) => items.push(item),
                        _ => return Err("its array holds something else than objects".to_owned()),
                    }
                }
            }
            _ => return Err("holds something else than objects".to_owned()),
        }
    }
    Ok(items)
}

fn parquet(file: File) -> Result<Vec<Fields>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|error| format!("is no Parquet file: {error}"))?;
    of_batches(reader).map_err(|error| error.to_string())
}

/// A file or a stream; what the `datasets` library writes is a stream.
fn arrow(path: &Path) -> Result<Vec<Fields>, ArrowError> {
    let file = || File::open(path).map(BufReader::new);
    match FileReader::try_new(file()?, None) {
        Ok(reader) => of_batches(reader),
        Err(_) => of_batches(StreamReader::try_new(file()?, None)?),
    }
}

fn of_batches(
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Vec<Fields>, ArrowError> {
    let mut items = Vec::new();
    for batch in batches {
        let mut text = Vec::new();
        // A field without a value is there all the same, so that a template can ask for it.
        let mut writer =
            WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
        writer.write(&batch?)?;
        writer.finish()?;
        drop(writer);
        items.extend(json(&text).map_err(ArrowError::JsonError)?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_may_stand_in_lines_or_in_an_array() {
        let lines = json(b"{\"a\": 1}\n{\"a\": [2, \"x\"]}\n").unwrap();
        assert_eq!(lines, json(b"[{\"a\": 1}, {\"a\": [2, \"x\"]}]").unwrap());
        assert!(json(b"{\"a\"").unwrap_err().contains("no JSON"));
        assert!(json(b"3").unwrap_err().contains("objects"));
    }

    #[test]
    fn a_missing_file_says_where_it_was_looked_for() {
        let error = load("mmlu", &["/nowhere/{subset}/*.arrow".to_owned()], Some("law"));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("/nowhere/law/*.arrow") && text.contains("fetch_tasks"), "{text}");
    }
}
