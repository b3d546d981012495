//! Parquet files, row group by row group.

use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use ::parquet::basic::Type as Physical;
use ::parquet::errors::ParquetError;
use ::parquet::schema::types::{SchemaDescriptor, Type};
use arrow::datatypes::{DataType, Field, Schema};

use super::InputFile;
use super::batches::{BATCH_BYTES, BATCH_ROWS, raw_batch, split};
use super::content::SharedContent;
use super::unit::{Batch, Columns, Sink};
use crate::chain::Rows;
use crate::{Error, Result};

/// What is known of a parquet file once its footer is read.
pub(super) struct ParquetFile {
    metadata: ArrowReaderMetadata,
    /// Index of the text column and of the identifier column.
    text: usize,
    id: Option<usize>,
}

impl ParquetFile {
    /// Reads the footer.
    pub(super) fn open(file: &InputFile, columns: &Columns) -> Result<Self> {
        let content = SharedContent(file.open()?);
        let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let first =
            ArrowReaderMetadata::load(&content, options()).map_err(|error| failed(file, error))?;
        let root = first.parquet_schema().root_schema();
        let text = position(file, root, &columns.text)?;
        let id = columns.id.as_ref().map(|id| position(file, root, id)).transpose()?;
        if !is_bytes(&root.get_fields()[text]) {
            return Err(Error::ColumnType {
                file: file.place.clone(),
                column: columns.text.clone(),
                found: first.schema().field(text).data_type().to_string(),
            });
        }
        // Read as a string, a column with one row that is not UTF-8 fails as a whole. So the
        // schema is read again without the claim that these columns are text.
        let bytes = without_claims(root, &[Some(text), id]).map_err(|e| failed(file, e))?;
        let second = ArrowReaderMetadata::load(&content, options().with_parquet_schema(bytes))
            .map_err(|error| failed(file, error))?;
        let large = large_binary(second.schema());
        let metadata = ArrowReaderMetadata::try_new(
            Arc::clone(second.metadata()),
            ArrowReaderOptions::new().with_schema(Arc::new(large)),
        )
        .map_err(|error| failed(file, error))?;
        Ok(Self { metadata, text, id })
    }

    pub(super) fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// Reads one row group and hands its rows to `sink`.
    pub(super) fn read(
        &self,
        file: &InputFile,
        number: u32,
        group: usize,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let groups = self.metadata.metadata().row_groups();
        let rows_of = |group: usize| u64::try_from(groups[group].num_rows()).unwrap_or(0);
        let mut row: u64 = (0..group).map(rows_of).sum();
        let mask = ProjectionMask::roots(
            self.metadata.parquet_schema(),
            [Some(self.text), self.id].into_iter().flatten(),
        );
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            SharedContent(file.open()?),
            self.metadata.clone(),
        );
        let reader = builder
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(self.batch_rows(group))
            .build()
            .map_err(|error| failed(file, error))?;
        let weight = self.weight(file, group);
        let end = row + rows_of(group);
        let names = self.metadata.schema().fields();
        for batch in reader {
            let batch = batch.map_err(|error| file.damaged(error))?;
            let name = names[self.text].name();
            let column = |name: &str| batch.column_by_name(name).expect("it is projected");
            let id = self.id.map(|id| column(names[id].name()));
            for piece in split(&raw_batch(file, number, row, (name, column(name)), id)?) {
                let rows = piece.num_rows() as u64;
                row += rows;
                let bytes = weight * rows / rows_of(group).max(1);
                if !sink(Batch { rows: Rows::Raw(piece), bytes })? {
                    return Ok(());
                }
            }
        }
        if row != end {
            return Err(file.damaged(format!("row group {group} ends at row {row} of {end}")));
        }
        Ok(())
    }

    /// Rows that make about a quarter of a batch, going by what the footer says of this row group:
    /// a mean, and a few rows may hold most of the text.
    fn batch_rows(&self, group: usize) -> usize {
        let group = self.metadata.metadata().row_group(group);
        let leaf = (0..group.num_columns())
            .find(|&leaf| self.metadata.parquet_schema().get_column_root_idx(leaf) == self.text);
        // The size in the file counts a text that is repeated once.
        let bytes = leaf.map_or(0, |leaf| {
            let column = group.column(leaf);
            column.unencoded_byte_array_data_bytes().unwrap_or(0).max(column.uncompressed_size())
        });
        let rows = usize::try_from(group.num_rows()).unwrap_or(0).max(1);
        let row_bytes = (usize::try_from(bytes).unwrap_or(0) / rows).max(1);
        (BATCH_BYTES / 4 / row_bytes).clamp(1, BATCH_ROWS)
    }

    /// The part of the file that this row group stands for, for progress.
    fn weight(&self, file: &InputFile, group: usize) -> u64 {
        let groups = self.metadata.metadata().row_groups();
        let bytes = |i: usize| u128::try_from(groups[i].compressed_size()).unwrap_or(0);
        let all: u128 = (0..groups.len()).map(bytes).sum();
        let share = u128::from(file.size) * bytes(group) / all.max(1);
        u64::try_from(share).unwrap_or(file.size)
    }
}

fn failed(file: &InputFile, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(error) => file.failed(*error),
            Err(other) => file.damaged(other),
        },
        other => file.damaged(other),
    }
}

fn position(file: &InputFile, root: &Type, column: &str) -> Result<usize> {
    let fields = root.get_fields();
    fields.iter().position(|field| field.name() == column).ok_or_else(|| Error::MissingColumn {
        file: file.place.clone(),
        column: column.to_owned(),
        available: fields.iter().map(|field| field.name().to_owned()).collect(),
    })
}

fn is_bytes(field: &Type) -> bool {
    field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY
}

/// The schema with the columns at `places` as plain bytes.
fn without_claims(
    root: &Type,
    places: &[Option<usize>],
) -> Result<Arc<SchemaDescriptor>, ParquetError> {
    let fields = root
        .get_fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            if !places.contains(&Some(index)) || !is_bytes(field) {
                return Ok(Arc::clone(field));
            }
            let repetition = field.get_basic_info().repetition();
            Type::primitive_type_builder(field.name(), Physical::BYTE_ARRAY)
                .with_repetition(repetition)
                .build()
                .map(Arc::new)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    Ok(Arc::new(SchemaDescriptor::new(Arc::new(root))))
}

/// Offsets of 64 bits, so that one batch may hold any text.
fn large_binary(schema: &Schema) -> Schema {
    let widen = |field: &Arc<Field>| match field.data_type() {
        DataType::Binary => Arc::new(field.as_ref().clone().with_data_type(DataType::LargeBinary)),
        _ => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(widen).collect::<Vec<_>>())
}
