//! JSON lines to rows.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeBinaryBuilder, RecordBatch, StringBuilder};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use terrace_data::BadRowKind;

use super::Rejected;
use super::columns::{LINE, column, filter, origins, raw_schema, with_origin};

/// Parses lines into raw rows; lines that are no JSON object with text are given back as bad.
///
/// A missing key is a row without text; a key that occurs twice counts as it was written last.
#[must_use]
pub fn parse_lines(
    lines: RecordBatch,
    text_key: &str,
    id_key: Option<&str>,
) -> (RecordBatch, Vec<Rejected>) {
    let column = column(&lines, LINE).as_binary::<i64>();
    let (files, rows) = origins(&lines);
    let mut texts = LargeBinaryBuilder::with_capacity(column.len(), column.values().len());
    let mut ids = StringBuilder::new();
    let mut rejected = Vec::new();
    let mut keep = Vec::with_capacity(column.len());
    for index in 0..column.len() {
        let parsed = match column.is_valid(index) {
            true => parse(column.value(index), text_key, id_key),
            false => Err(BadRowKind::Oversized),
        };
        keep.push(parsed.is_ok());
        match parsed {
            Ok(Row { text, id }) => {
                texts.append_option(text);
                ids.append_option(id);
            }
            Err(kind) => {
                let (file, row) = (files.value(index), rows.value(index));
                rejected.push(Rejected { file, row, id: None, kind });
            }
        }
    }
    let columns: [ArrayRef; 2] = [Arc::new(texts.finish()), Arc::new(ids.finish())];
    (with_origin(&filter(lines, &keep), raw_schema(), columns), rejected)
}

#[derive(Default)]
struct Row {
    text: Option<String>,
    id: Option<String>,
}

fn parse(line: &[u8], text_key: &str, id_key: Option<&str>) -> Result<Row, BadRowKind> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let row = RowSeed { text_key, id_key }
        .deserialize(&mut deserializer)
        .and_then(|row| deserializer.end().map(|()| row));
    row.map_err(|_| match std::str::from_utf8(line) {
        Ok(_) => BadRowKind::Malformed,
        Err(_) => BadRowKind::InvalidUtf8,
    })
}

/// Reads two keys of an object and skips the others without building them.
struct RowSeed<'a> {
    text_key: &'a str,
    id_key: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == self.text_key {
                row.text = map.next_value()?;
            } else if Some(key.as_str()) == self.id_key {
                row.id = match map.next_value()? {
                    Value::Null => None,
                    Value::String(id) => Some(id),
                    other => Some(other.to_string()),
                };
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_text_and_identifier_or_a_reason() {
        let parsed = |line: &str| parse(line.as_bytes(), "text", Some("id"));
        let row = parsed(r#"{"id": 7, "meta": {"text": [1]}, "text": "a\u00e9\n"}"#).unwrap();
        assert_eq!((row.text.as_deref(), row.id.as_deref()), (Some("aé\n"), Some("7")));
        assert!(parsed(r#"{"text": null}"#).unwrap().text.is_none());
        assert!(parsed("{}").unwrap().text.is_none());
        for malformed in
            ["", "[]", "{", r#"{"text": 1}"#, r#"{"text": "a"} x"#, r#"{"text": "\ud800"}"#]
        {
            assert_eq!(parsed(malformed).err(), Some(BadRowKind::Malformed), "{malformed}");
        }
        let invalid = parse(b"{\"text\": \"a\xff\"}", "text", None);
        assert_eq!(invalid.err(), Some(BadRowKind::InvalidUtf8));
    }
}
