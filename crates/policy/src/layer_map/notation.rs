//! How a selection is written: `12..28`, `solar 8`, `stack 2`, `interleave 4`, `0..24, 8..32`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::Selection;

/// A text that is no selection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found `{found}`, expected layers such as `12..28` (half-open), `solar 8`, `stack 2`, \
     `interleave 4`, or slices such as `0..24, 8..32`"
)]
pub struct ParseSelectionError {
    found: String,
}

impl FromStr for Selection {
    type Err = ParseSelectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim()).ok_or_else(|| ParseSelectionError { found: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Selection> {
    if let Some((word, number)) = text.split_once(char::is_whitespace) {
        let amount = || number.trim().parse().ok();
        match word {
            "solar" => return amount().map(Selection::Solar),
            "stack" => return amount().map(Selection::Stack),
            "interleave" => return amount().map(Selection::Interleave),
            _ => {}
        }
    }
    if text.contains(',') {
        let list = text.strip_suffix(',').unwrap_or(text);
        return list.split(',').map(parse_range).collect::<Option<_>>().map(Selection::Slices);
    }
    parse_range(text).map(Selection::Range)
}

fn parse_range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.trim().split_once("..")?;
    Some(start.trim().parse().ok()?..end.trim().parse().ok()?)
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => write!(f, "{}..{}", range.start, range.end),
            Self::Solar(drop) => write!(f, "solar {drop}"),
            Self::Stack(times) => write!(f, "stack {times}"),
            Self::Interleave(every) => write!(f, "interleave {every}"),
            Self::Slices(slices) => {
                let texts: Vec<String> =
                    slices.iter().map(|slice| format!("{}..{}", slice.start, slice.end)).collect();
                // One slice keeps a comma, so that it is not read as a range to repeat.
                let end = if texts.len() == 1 { "," } else { "" };
                write!(f, "{}{end}", texts.join(", "))
            }
        }
    }
}

impl TryFrom<String> for Selection {
    type Error = ParseSelectionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> Self {
        selection.to_string()
    }
}
