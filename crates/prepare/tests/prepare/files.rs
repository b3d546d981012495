//! Columns of every kind that may hold text.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, DictionaryArray, Int64Array, LargeBinaryArray,
    LargeStringArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::datatypes::Int32Type;
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use terrace_data::BadRows;
use terrace_prepare::Error;

use crate::support::{config, prepare, sorted, texts};

const TEXTS: [Option<&str>; 4] = [Some("one text"), None, Some("另一个"), Some("the third")];

fn columns() -> Vec<ArrayRef> {
    let bytes = TEXTS.map(|text| text.map(str::as_bytes));
    vec![
        Arc::new(StringArray::from_iter(TEXTS)),
        Arc::new(LargeStringArray::from_iter(TEXTS)),
        Arc::new(StringViewArray::from_iter(TEXTS)),
        Arc::new(BinaryArray::from_iter(bytes)),
        Arc::new(LargeBinaryArray::from_iter(bytes)),
        Arc::new(BinaryViewArray::from_iter(bytes)),
        Arc::new(TEXTS.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ]
}

fn batch(text: ArrayRef) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(10..10 + text.len() as i64));
    RecordBatch::try_from_iter([("id", ids), ("body", text)]).unwrap()
}

fn check(home: &Path, path: &Path, name: &str) {
    let mut config = config(&[path.to_owned()]);
    config.text_column = "body".to_owned();
    config.id_column = Some("id".to_owned());
    let output = home.join(name);
    let manifest = prepare(&config, &output).unwrap().manifest;
    assert_eq!(sorted(texts(&output)), ["one text", "the third", "另一个"], "{name}");
    assert_eq!(manifest.counts.bad, BadRows { null: 1, ..BadRows::default() });
    let bad = &manifest.bad_rows[0];
    assert_eq!((bad.row, bad.id.as_deref()), (1, Some("11")), "{name}");
}

#[test]
fn text_columns_of_every_type_are_read() {
    let home = tempfile::tempdir().unwrap();
    for column in columns() {
        let name = column.data_type().to_string().replace(|c: char| !c.is_alphanumeric(), "-");
        let batch = batch(column);
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        let path = home.path().join(format!("{name}.arrow"));
        terrace_base::fs::write_atomic(&path, &writer.into_inner().unwrap()).unwrap();
        check(home.path(), &path, &format!("arrow {name}"));

        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let path = home.path().join(format!("{name}.parquet"));
        terrace_base::fs::write_atomic(&path, &writer.into_inner().unwrap()).unwrap();
        check(home.path(), &path, &format!("parquet {name}"));
    }
}

#[test]
fn a_parquet_string_that_is_not_utf8_is_one_bad_row() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("claimed.parquet");
    let schema = parse_message_type("message m { required binary text (UTF8); }").unwrap();
    let mut writer =
        SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values = [&b"before"[..], b"br\xffken", b"after"].map(|b| ByteArray::from(b.to_vec()));
    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    terrace_base::fs::write_atomic(&path, &writer.into_inner().unwrap()).unwrap();

    let output = home.path().join("edition");
    let manifest = prepare(&config(&[path]), &output).unwrap().manifest;
    assert_eq!(sorted(texts(&output)), ["after", "before"]);
    assert_eq!(manifest.counts.bad, BadRows { invalid_utf8: 1, ..BadRows::default() });
    assert_eq!(
        (manifest.bad_rows[0].file.as_str(), manifest.bad_rows[0].row),
        ("claimed.parquet", 1)
    );
}

#[test]
fn wrong_columns_are_named() {
    let home = tempfile::tempdir().unwrap();
    let batch = batch(columns().remove(0));
    let mut ipc = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    ipc.write(&batch).unwrap();
    let mut parquet = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    parquet.write(&batch).unwrap();
    for (name, bytes) in
        [("a.arrow", ipc.into_inner().unwrap()), ("b.parquet", parquet.into_inner().unwrap())]
    {
        let path = home.path().join(name);
        terrace_base::fs::write_atomic(&path, &bytes).unwrap();
        let mut config = config(&[path]);
        let error = prepare(&config, &home.path().join("edition")).unwrap_err();
        assert!(
            matches!(&error, Error::MissingColumn { available, .. } if available == &["id", "body"])
        );
        assert!(error.to_string().contains(name), "{error}");
        config.text_column = "id".to_owned();
        let error = prepare(&config, &home.path().join("edition")).unwrap_err();
        assert!(matches!(&error, Error::ColumnType { found, .. } if found == "Int64"), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
