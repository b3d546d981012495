//! Comma-separated values with a line of names (RFC 4180), as C-Eval and CMMLU are published.

use serde_json::{Map, Value};

/// One object per line, all values texts; the error says the line and what is wrong with it.
pub(crate) fn read(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = rows(text)?.into_iter();
    let Some((_, names)) = rows.next() else {
        return Err("is empty, expected a line of names".to_owned());
    };
    rows.map(|(line, fields)| {
        if fields.len() != names.len() {
            let (found, expected) = (fields.len(), names.len());
            return Err(format!("line {line} has {found} fields, expected {expected}"));
        }
        Ok(names.iter().cloned().zip(fields.into_iter().map(Value::String)).collect())
    })
    .collect()
}

/// The rows with the lines that they begin in; empty lines are left out.
fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut rows = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    while chars.peek().is_some() {
        let first_line = line;
        let mut fields = Vec::new();
        loop {
            let (field, more) = field(&mut chars, &mut line)
                .ok_or_else(|| format!("line {first_line} opens a quote that is never closed"))?;
            fields.push(field);
            if !more {
                break;
            }
        }
        if fields != [""] {
            rows.push((first_line, fields));
        }
    }
    Ok(rows)
}

/// One field, and whether another one follows in its row; none if a quote is not closed.
fn field(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    line: &mut usize,
) -> Option<(String, bool)> {
    let mut field = String::new();
    let mut quoted = chars.next_if_eq(&'"').is_some();
    let mut opened = quoted;
    loop {
        match chars.next() {
            Some('"') if quoted => {
                if chars.next_if_eq(&'"').is_some() {
                    field.push('"');
                } else {
                    quoted = false;
                }
            }
            Some(',') if !quoted => return Some((field, true)),
            Some('\r') if !quoted && chars.peek() == Some(&'\n') => {}
            Some('\n') if !quoted => {
                *line += 1;
                return Some((field, false));
            }
            Some(character) => {
                *line += usize::from(character == '\n');
                field.push(character);
            }
            None if quoted && std::mem::take(&mut opened) => return None,
            None => return Some((field, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_commas_and_lines_stay_in_their_field() {
        let rows = read("\u{feff},Question,A\r\n0,\"a, \"\"b\"\"\nc\",答案\n\n1,x,\"\"\n").unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["Question"], "a, \"b\"\nc");
        assert_eq!(rows[0]["A"], "答案");
        assert_eq!(rows[0][""], "0");
        assert_eq!(rows[1]["A"], "");
    }

    #[test]
    fn damage_is_named_with_its_line() {
        assert!(read("a,b\n1,2\n3\n").unwrap_err().contains("line 3 has 1 fields"));
        assert!(read("a\n\"x\n").unwrap_err().contains("line 2 opens a quote"));
        assert!(read("").unwrap_err().contains("empty"));
    }
}
