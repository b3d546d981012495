//! Corpora, input files in every format, and views of what came out.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use terrace_base::{Seed, fs};
use terrace_config::{Bytes, Input, Normalization, Packing, PrepareConfig};
use terrace_data::{Edition, Manifest, Window};
use terrace_prepare::{Options, Report, Result, Silent, run};
use terrace_tokenizer::Tokenizer;

pub(crate) const FORMATS: [&str; 6] =
    ["jsonl", "jsonl.zst", "jsonl.gz", "arrow", "stream.arrow", "parquet"];

pub(crate) fn tokenizer_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/fixtures/byte_level.json")
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::load(&tokenizer_path()).unwrap()
}

/// A small edition of everything in `inputs`.
pub(crate) fn config(inputs: &[PathBuf]) -> PrepareConfig {
    PrepareConfig {
        source: "test".to_owned(),
        tokenizer: tokenizer_path(),
        sequence_length: 32,
        packing: Packing::ConcatAndChunk,
        append_eos: "<|endoftext|>".to_owned(),
        seed: Seed(17),
        partitions: 3,
        text_column: "text".to_owned(),
        id_column: None,
        minimum_characters: 0,
        maximum_characters: 0,
        maximum_document_bytes: Bytes(1 << 20),
        normalization: Normalization::Nfc,
        deduplicate: true,
        spill_directory: None,
        memory_budget: Bytes(64 << 20),
        contamination: None,
        inputs: named(inputs),
        held_out: Vec::new(),
    }
}

pub(crate) fn named(paths: &[PathBuf]) -> Vec<Input> {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() { Vec::new() } else { vec![Input { paths, format: None }] }
}

pub(crate) fn prepare(config: &PrepareConfig, output: &Path) -> Result<Report> {
    run(config, output, &threads(2), &Silent)
}

pub(crate) fn threads(count: usize) -> Options {
    Options { threads: NonZeroUsize::new(count), ..Options::default() }
}

/// Documents of 1 to 60 words in three scripts, all different.
pub(crate) fn corpus(count: usize, seed: u64) -> Vec<String> {
    const WORDS: [&str; 12] = [
        "the",
        "sum",
        "of",
        "naïve",
        "fn main()",
        "学而时习之",
        "\n",
        "x² + y²",
        "🙂",
        "    return",
        "truth",
        "42",
    ];
    let words = Seed(seed).stream("words");
    (0..count)
        .map(|document| {
            let stream = words.substream(document as u64);
            let length = 1 + stream.at(0) % 60;
            let text: Vec<&str> =
                (1..=length).map(|i| WORDS[(stream.at(i) % WORDS.len() as u64) as usize]).collect();
            format!("{document}: {}", text.join(" "))
        })
        .collect()
}

/// Writes documents in a format, the name of the file being `documents.<format>`.
pub(crate) fn write(directory: &Path, format: &str, documents: &[String]) -> PathBuf {
    let path = directory.join(format!("documents.{format}"));
    let bytes = match format {
        "jsonl" => json_lines(documents),
        "jsonl.zst" => zstd::encode_all(&json_lines(documents)[..], 3).unwrap(),
        "jsonl.gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(&json_lines(documents)).unwrap();
            encoder.finish().unwrap()
        }
        "arrow" => {
            let batches = batches(documents);
            let mut writer = FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.into_inner().unwrap()
        }
        "stream.arrow" => {
            let batches = batches(documents);
            let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.into_inner().unwrap()
        }
        "parquet" => {
            let batches = batches(documents);
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_max_row_group_row_count(Some(37))
                .build();
            let mut writer =
                ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.into_inner().unwrap()
        }
        other => panic!("no format {other}"),
    };
    fs::write_atomic(&path, &bytes).unwrap();
    path
}

fn json_lines(documents: &[String]) -> Vec<u8> {
    let line = |(n, text): (usize, &String)| serde_json::json!({"n": n, "text": text}).to_string();
    documents.iter().enumerate().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Record batches of 50 rows with a column before the text.
fn batches(documents: &[String]) -> Vec<RecordBatch> {
    let batch = |rows: &[String]| {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows.len() as i64));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows));
        RecordBatch::try_from_iter([("n", numbers), ("text", texts)]).unwrap()
    };
    documents.chunks(50).map(batch).collect()
}

/// Every file of an edition with its bytes, but for its manifests.
pub(crate) fn shards(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = tree(directory);
    files.retain(|path, _| path.extension().is_some_and(|extension| extension == "arrow"));
    files
}

/// Every file below a folder with its bytes.
pub(crate) fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

pub(crate) fn manifest(directory: &Path) -> Manifest {
    Manifest::read(directory).unwrap()
}

/// The texts of an edition packed by concatenation, each checked to end with `<|endoftext|>`.
pub(crate) fn texts(directory: &Path) -> Vec<String> {
    let tokenizer = tokenizer();
    let eos = tokenizer.token_id("<|endoftext|>").unwrap();
    let edition = Edition::open(directory).unwrap();
    let windows: Vec<Window<'_>> = (0..edition.windows()).map(|i| edition.window(i)).collect();
    let mut documents = Vec::new();
    let mut open = Vec::new();
    let mut first = 0;
    for shard in &edition.manifest().shards {
        for (index, window) in windows[first..first + shard.windows as usize].iter().enumerate() {
            // The first token of a window but a shard's first is the last of the window before.
            let real = &window.tokens.to_vec()[usize::from(index > 0)..window.length as usize];
            for &token in real {
                open.push(token);
                if token == eos {
                    open.pop();
                    documents.push(tokenizer.decode(&std::mem::take(&mut open)).unwrap());
                }
            }
        }
        assert!(open.is_empty(), "a shard ends with the end of a document");
        first += shard.windows as usize;
    }
    documents
}

pub(crate) fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
