//! The pieces of input that are read one after the other by one thread.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use terrace_config::Format;

use super::InputFile;
use super::parquet::ParquetFile;
use super::{arrow, jsonl};
use crate::Result;
use crate::chain::Rows;

/// Which columns are read.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) text: String,
    pub(crate) id: Option<String>,
    /// The largest document that is wanted.
    pub(crate) maximum_document_bytes: u64,
}

/// Rows, and how much of the input they stand for.
pub(crate) struct Batch {
    pub(crate) rows: Rows,
    /// Bytes of the input file.
    pub(crate) bytes: u64,
}

/// Takes batches; `false` says that no more are wanted.
pub(super) type Sink<'a> = dyn FnMut(Batch) -> Result<bool> + 'a;

enum Unit {
    File(u32),
    RowGroup(u32, Arc<ParquetFile>, usize),
}

/// What is left to read, for any number of reading threads.
pub(crate) struct Queue<'a> {
    files: &'a [InputFile],
    columns: Columns,
    units: Mutex<VecDeque<Unit>>,
}

impl<'a> Queue<'a> {
    pub(crate) fn new(files: &'a [InputFile], columns: Columns) -> Self {
        let count = u32::try_from(files.len()).expect("fewer files than that");
        Self { files, columns, units: Mutex::new((0..count).map(Unit::File).collect()) }
    }

    /// Reads units until there are none or `sink` wants no more.
    pub(crate) fn drain(&self, sink: &mut Sink<'_>) -> Result<()> {
        let wanted = Cell::new(true);
        let mut watching = |batch: Batch| {
            wanted.set(sink(batch)?);
            Ok(wanted.get())
        };
        while wanted.get() {
            let unit = self.units().pop_front();
            let Some(unit) = unit else { break };
            self.read(unit, &mut watching)?;
        }
        Ok(())
    }

    fn read(&self, unit: Unit, sink: &mut Sink<'_>) -> Result<()> {
        let (Unit::File(number) | Unit::RowGroup(number, ..)) = unit;
        let file = &self.files[number as usize];
        // The decoders of columnar formats have assertions that damaged data can reach.
        catch_unwind(AssertUnwindSafe(|| self.read_unit(file, unit, sink)))
            .unwrap_or_else(|_| Err(file.damaged("its content cannot be decoded")))
    }

    fn read_unit(&self, file: &InputFile, unit: Unit, sink: &mut Sink<'_>) -> Result<()> {
        match unit {
            Unit::RowGroup(number, parquet, group) => parquet.read(file, number, group, sink),
            Unit::File(number) => match file.format {
                Format::Parquet => self.expand(file, number),
                Format::Arrow => arrow::read(file, number, &self.columns, sink),
                Format::Jsonl | Format::JsonlZstd | Format::JsonlGzip => {
                    jsonl::read(file, number, self.maximum_line(), sink)
                }
            },
        }
    }

    /// Puts the row groups of a parquet file at the front, so that other threads can take some.
    fn expand(&self, file: &InputFile, number: u32) -> Result<()> {
        let parquet = Arc::new(ParquetFile::open(file, &self.columns)?);
        let mut units = self.units();
        for group in (0..parquet.row_groups()).rev() {
            units.push_front(Unit::RowGroup(number, Arc::clone(&parquet), group));
        }
        Ok(())
    }

    /// JSON that escapes every character of Chinese text doubles its size; a line larger than that
    /// plus a megabyte of other keys cannot hold a document that is wanted.
    fn maximum_line(&self) -> usize {
        let bytes = self.columns.maximum_document_bytes.saturating_mul(2).saturating_add(1 << 20);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn units(&self) -> std::sync::MutexGuard<'_, VecDeque<Unit>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
