//! Arrow IPC, as a file or as a stream.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};

use super::InputFile;
use super::batches::{raw_batch, split};
use super::content::ContentReader;
use super::framing::{Framed, check_footer};
use super::unit::{Batch, Columns, Sink};
use crate::chain::Rows;
use crate::{Error, Result};

/// What an IPC file begins with, and a stream does not.
const MAGIC: &[u8; 6] = b"ARROW1";

/// Reads a file and hands its rows to `sink`.
///
/// A stream that was cut between two messages cannot be told from one that ended there: only a
/// file has a footer.
pub(super) fn read(
    file: &InputFile,
    number: u32,
    columns: &Columns,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut batches = guarded(file, || open(file, columns))?;
    let mut row = 0;
    let mut reported = 0;
    while let Some(batch) = guarded(file, || Ok(batches.next()))? {
        let batch = batch.map_err(|error| failed(file, error))?;
        let named = |name: &str| batch.column_by_name(name).expect("it is projected");
        let id = columns.id.as_deref().map(named);
        let text = (columns.text.as_str(), named(&columns.text));
        for piece in split(&raw_batch(file, number, row, text, id)?) {
            row += piece.num_rows() as u64;
            // Uncompressed batches are about as large in memory as in the file.
            let bytes = (piece.get_array_memory_size() as u64).min(file.size - reported);
            reported += bytes;
            if !sink(Batch { rows: Rows::Raw(piece), bytes })? {
                return Ok(());
            }
        }
    }
    Ok(())
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

fn open(file: &InputFile, columns: &Columns) -> Result<Batches> {
    let mut reader = ContentReader::new(file.open()?);
    let mut magic = [0; 6];
    reader.read_exact(&mut magic).map_err(|error| file.failed(error))?;
    let rewound = || -> Result<BufReader<ContentReader>> {
        let mut reader = ContentReader::new(file.open()?);
        reader.seek(SeekFrom::Start(0)).map_err(|error| file.failed(error))?;
        Ok(BufReader::with_capacity(1 << 18, reader))
    };
    let damaged = |error| failed(file, error);
    // Each is opened twice: the schema says which columns to project.
    if &magic == MAGIC {
        check_footer(rewound()?, file.size).map_err(|error| file.failed(error))?;
        let schema = FileReader::try_new(rewound()?, None).map_err(damaged)?.schema();
        let projection = Some(projection(file, &schema, columns)?);
        Ok(Box::new(FileReader::try_new(rewound()?, projection).map_err(damaged)?))
    } else {
        let framed = || Ok::<_, Error>(Framed::new(rewound()?, file.size));
        let schema = StreamReader::try_new(framed()?, None).map_err(damaged)?.schema();
        let projection = Some(projection(file, &schema, columns)?);
        Ok(Box::new(StreamReader::try_new(framed()?, projection).map_err(damaged)?))
    }
}

fn projection(file: &InputFile, schema: &SchemaRef, columns: &Columns) -> Result<Vec<usize>> {
    let mut indices = Vec::new();
    for column in [Some(&columns.text), columns.id.as_ref()].into_iter().flatten() {
        indices.push(schema.index_of(column).map_err(|_| Error::MissingColumn {
            file: file.place.clone(),
            column: column.clone(),
            available: schema.fields().iter().map(|field| field.name().clone()).collect(),
        })?);
    }
    Ok(indices)
}

/// Runs a piece of the reader, which panics on some damaged files where it should refuse them.
fn guarded<T>(file: &InputFile, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(failed(file, ArrowError::ParseError("the message's structure is broken".to_owned())))
    })
}

fn failed(file: &InputFile, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => file.failed(error),
        other => file.damaged(other),
    }
}
