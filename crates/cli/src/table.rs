//! Small tables for people.

pub(crate) use terrace_base::format_grouped as grouped;
use unicode_width::UnicodeWidthStr;

/// A table whose first column is names and whose other columns are mostly numbers.
///
/// A column is aligned right if every cell below its heading begins like a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows yet.
    pub(crate) fn new<S: Into<String>>(heading: impl IntoIterator<Item = S>) -> Self {
        Self { heading: heading.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row, which has as many cells as there are headings.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert_eq!(cells.len(), self.heading.len(), "one cell per heading");
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lays the table out, two spaces between columns, each line ended.
    pub(crate) fn render(&self) -> String {
        let columns: Vec<Column> =
            (0..self.heading.len()).map(|index| self.column(index)).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.heading).chain(&self.rows) {
            let cells: Vec<String> =
                row.iter().zip(&columns).map(|(cell, column)| column.pad(cell)).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    fn column(&self, index: usize) -> Column {
        let cells = || self.rows.iter().map(|row| row[index].as_str());
        let width = cells().map(UnicodeWidthStr::width).max().unwrap_or(0);
        Column {
            width: width.max(self.heading[index].width()),
            right: index > 0 && cells().all(is_numeric),
        }
    }
}

/// Lays out `name: value` lines, the values below each other.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let longest = facts.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        format!("{name}{}  {value}\n", " ".repeat(longest - name.width()))
    };
    facts.iter().map(line).collect()
}

/// Writes a duration as people say it: `48 s`, `12 min 5 s`, `3 h 20 min`, `41 d 6 h`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

struct Column {
    width: usize,
    right: bool,
}

impl Column {
    fn pad(&self, cell: &str) -> String {
        let blank = " ".repeat(self.width - cell.width());
        if self.right { format!("{blank}{cell}") } else { format!("{cell}{blank}") }
    }
}

fn is_numeric(cell: &str) -> bool {
    let first = cell.trim_start_matches(['+', '-', '−', '<', '~']).chars().next();
    first.is_none_or(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_right_and_names_left() {
        let mut table = Table::new(["source", "tokens", "note"]);
        table.row(["english", "12", "fine"]);
        table.row(["数学", "3,000", "-"]);
        let expected = "source   tokens  note\nenglish      12  fine\n数学      3,000  -\n";
        assert_eq!(table.render(), expected);
        assert!(!table.is_empty());
    }

    #[test]
    fn values_stand_below_each_other() {
        let text = facts(&[("a", "1".to_owned()), ("long", "2".to_owned())]);
        assert_eq!(text, "a     1\nlong  2\n");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(1.25), "1.2 s");
        assert_eq!(duration(59.4), "59 s");
        assert_eq!(duration(725.0), "12 min 5 s");
        assert_eq!(duration(12_000.0), "3 h 20 min");
        assert_eq!(duration(3_564_000.0), "41 d 6 h");
    }
}
