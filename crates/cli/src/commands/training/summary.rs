//! The closing table of a run.

use std::collections::BTreeSet;
use std::fmt::Write;

use terrace_train::TrainReport;

use crate::table::{Table, grouped};

/// Lays out what a run did: held-out bits per byte by source and stage, growths, speed.
pub(crate) fn render(report: &TrainReport) -> String {
    let mut text = String::from("\nheld-out bits per byte (lower is better)\n");
    text.push_str(&losses(report).render());
    for stage in &report.stages {
        let tokens = grouped(stage.tokens.0);
        let _ = writeln!(text, "stage `{}`: {tokens} tokens in {} steps", stage.name, stage.steps);
    }
    for growth in &report.batch_growths {
        let _ = writeln!(
            text,
            "batch {} -> {} at {} tokens: {}",
            grouped(growth.from_tokens.0),
            grouped(growth.to_tokens.0),
            grouped(growth.tokens_seen.0),
            growth.reason
        );
    }
    if report.batch_growths.is_empty() {
        text.push_str("the batch did not grow; decisions.jsonl says why\n");
    }
    if let Some(speed) = report.tokens_per_second {
        let _ = writeln!(text, "{speed:.0} tokens/s");
    }
    let _ = writeln!(text, "state {}", report.state_digest);
    let _ = writeln!(text, "run   {}", report.run_directory.display());
    if !report.complete {
        let _ = writeln!(text, "continue with: terrace resume {}", report.run_directory.display());
    }
    text
}

fn losses(report: &TrainReport) -> Table {
    let ended: Vec<_> = report.stages.iter().filter(|s| !s.bits_per_byte.is_empty()).collect();
    let heading = ["source".to_owned(), "before".to_owned()].into_iter();
    let after = ended.iter().map(|stage| format!("after {}", stage.name));
    let mut table = Table::new(heading.chain(after));
    let columns: Vec<_> = std::iter::once(&report.bits_per_byte_before)
        .chain(ended.iter().map(|stage| &stage.bits_per_byte))
        .collect();
    let sources: BTreeSet<&String> = columns.iter().flat_map(|column| column.keys()).collect();
    for source in sources {
        let cell = |bits: Option<&f64>| bits.map_or_else(|| "-".to_owned(), |b| format!("{b:.4}"));
        let cells = columns.iter().map(|column| cell(column.get(source)));
        table.row(std::iter::once(source.clone()).chain(cells));
    }
    table
}
