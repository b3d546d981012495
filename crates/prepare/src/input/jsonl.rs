//! JSON lines, plain or compressed, split into lines but not parsed.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::array::{ArrayRef, LargeBinaryBuilder, RecordBatch, UInt32Array, UInt64Array};
use flate2::bufread::MultiGzDecoder;
use serde::de::IgnoredAny;
use terrace_config::Format;

use super::InputFile;
use super::batches::{BATCH_BYTES, BATCH_ROWS};
use super::content::ContentReader;
use super::unit::{Batch, Sink};
use crate::Result;
use crate::chain::Rows;
use crate::chain::columns::lines_schema;

/// Reads a file and hands its lines to `sink`; blank lines are no rows.
///
/// A line longer than `maximum_line` is skipped without being held, and handed on as null.
pub(super) fn read(
    file: &InputFile,
    number: u32,
    maximum_line: usize,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let content = file.open()?;
    if content.size() == 0 && file.format != Format::Jsonl {
        return Err(file.damaged("it is empty"));
    }
    let compressed = BufReader::with_capacity(1 << 18, Counting::new(ContentReader::new(content)));
    let source: Box<dyn Decoded> = match file.format {
        Format::JsonlZstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(compressed);
            Box::new(decoder.map_err(|error| file.failed(error))?)
        }
        Format::JsonlGzip => Box::new(MultiGzDecoder::new(compressed)),
        _ => Box::new(compressed),
    };
    let mut lines = Lines {
        source: BufReader::with_capacity(1 << 18, source),
        maximum: maximum_line,
        line: Vec::new(),
        row: 0,
    };
    let mut reported = 0;
    loop {
        let (batch, ended) = lines.batch(file, number)?;
        let bytes = lines.source.get_ref().compressed_bytes() - reported;
        reported += bytes;
        let wanted = batch.num_rows() == 0 || sink(Batch { rows: Rows::Lines(batch), bytes })?;
        if ended || !wanted {
            return Ok(());
        }
    }
}

struct Lines {
    source: BufReader<Box<dyn Decoded>>,
    maximum: usize,
    line: Vec<u8>,
    row: u64,
}

/// What a line turned out to be.
enum Line {
    Text,
    TooLong,
    End,
}

impl Lines {
    /// The next batch, and whether the file ended with it.
    fn batch(&mut self, file: &InputFile, number: u32) -> Result<(RecordBatch, bool)> {
        let mut lines = LargeBinaryBuilder::new();
        let mut rows = Vec::new();
        let mut ended = false;
        let mut bytes = 0;
        while bytes < BATCH_BYTES && rows.len() < BATCH_ROWS {
            match self.next(file)? {
                Line::End => {
                    ended = true;
                    break;
                }
                Line::Text if self.line.trim_ascii().is_empty() => {}
                Line::Text => {
                    lines.append_value(&self.line);
                    bytes += self.line.len();
                    rows.push(self.row);
                }
                Line::TooLong => {
                    lines.append_null();
                    rows.push(self.row);
                }
            }
            self.row += 1;
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_value(number, rows.len())),
            Arc::new(UInt64Array::from(rows)),
            Arc::new(lines.finish()),
        ];
        let batch = RecordBatch::try_new(lines_schema(), columns);
        Ok((batch.expect("the columns are the schema's"), ended))
    }

    fn next(&mut self, file: &InputFile) -> Result<Line> {
        self.line.clear();
        let limit = self.maximum as u64 + 1;
        let read = (&mut self.source).take(limit).read_until(b'\n', &mut self.line);
        if read.map_err(|error| file.failed(error))? == 0 {
            return Ok(Line::End);
        }
        if self.line.pop_if(|byte| *byte == b'\n').is_some() {
            if self.row == 0 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            return Ok(Line::Text);
        }
        if self.line.len() as u64 == limit {
            self.line.clear();
            self.source.skip_until(b'\n').map_err(|error| file.failed(error))?;
            return Ok(Line::TooLong);
        }
        // The last line may lack its end, but not its closing brace.
        match serde_json::from_slice::<IgnoredAny>(&self.line) {
            Err(error) if error.is_eof() && !self.line.trim_ascii().is_empty() => {
                Err(file.damaged(format!("it ends in the middle of row {}", self.row)))
            }
            _ => Ok(Line::Text),
        }
    }
}

/// A decoder that says how much of the file it has consumed.
trait Decoded: Read {
    fn compressed_bytes(&self) -> u64;
}

type Compressed = BufReader<Counting<ContentReader>>;

impl Decoded for Compressed {
    fn compressed_bytes(&self) -> u64 {
        self.get_ref().bytes
    }
}

impl Decoded for zstd::stream::read::Decoder<'_, Compressed> {
    fn compressed_bytes(&self) -> u64 {
        self.get_ref().compressed_bytes()
    }
}

impl Decoded for MultiGzDecoder<Compressed> {
    fn compressed_bytes(&self) -> u64 {
        self.get_ref().compressed_bytes()
    }
}

struct Counting<R> {
    inner: R,
    bytes: u64,
}

impl<R> Counting<R> {
    fn new(inner: R) -> Self {
        Self { inner, bytes: 0 }
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
