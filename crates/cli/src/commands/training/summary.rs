//! The closing table of a run.

use std::collections::BTreeSet;
use std::fmt::Write;

use terrace_train::{EvaluationReport, TaskScore, TrainReport, UpscaleReport};

use crate::table::{Table, grouped};

/// Lays out what a run did: held-out bits per byte by source and stage, growths, speed.
pub(crate) fn render(report: &TrainReport) -> String {
    let mut text = String::from("\nheld-out bits per byte (lower is better)\n");
    text.push_str(&losses(report).render());
    if report.evaluations.iter().any(|evaluation| !evaluation.tasks.is_empty()) {
        let _ = write!(text, "\nscores\n{}\n", scores(report).render());
    }
    for stage in &report.stages {
        let tokens = grouped(stage.tokens.0);
        let _ = writeln!(text, "stage `{}`: {tokens} tokens in {} steps", stage.name, stage.steps);
    }
    if let Some(upscale) = &report.upscale {
        let _ = writeln!(text, "{}", twins(upscale));
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

/// A line for each task, a column for each evaluation.
fn scores(report: &TrainReport) -> Table {
    let heading = ["task", "metric"].map(str::to_owned).into_iter();
    let labels = report.evaluations.iter().map(|evaluation| evaluation.label.clone());
    let mut table = Table::new(heading.chain(labels));
    let mut tasks: Vec<(&str, &str)> = Vec::new();
    for score in report.evaluations.iter().flat_map(|evaluation| &evaluation.tasks) {
        let task = (score.task.as_str(), score.metric.as_str());
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    for (task, metric) in tasks {
        let cell = |evaluation: &EvaluationReport| {
            let own = |score: &&TaskScore| score.task == task && score.metric == metric;
            let score = evaluation.tasks.iter().find(own);
            score.map_or_else(|| "-".to_owned(), |score| format!("{:.4}", score.value))
        };
        let cells = report.evaluations.iter().map(cell);
        table.row([task, metric].map(str::to_owned).into_iter().chain(cells));
    }
    table
}

fn twins(upscale: &UpscaleReport) -> String {
    let cosines: Vec<String> = upscale
        .twins
        .iter()
        .map(|twin| format!("{}/{} {:.4}", twin.original, twin.copy, twin.cosine))
        .collect();
    format!(
        "{} layers from {} ({}); cosine of the weights of twins: {}",
        upscale.layers,
        upscale.source_layers,
        upscale.selection,
        cosines.join(", ")
    )
}

fn losses(report: &TrainReport) -> Table {
    let ended: Vec<_> = report.stages.iter().filter(|s| !s.bits_per_byte.is_empty()).collect();
    let base = report.upscale.as_ref().map(|upscale| &upscale.bits_per_byte_base);
    let before = match base {
        Some(_) => vec!["base", "up-scaled, untrained"],
        None => vec!["before"],
    };
    let heading = std::iter::once("source").chain(before).map(str::to_owned);
    let after = ended.iter().map(|stage| format!("after {}", stage.name));
    let mut table = Table::new(heading.chain(after));
    let columns: Vec<_> = base
        .into_iter()
        .chain(std::iter::once(&report.bits_per_byte_before))
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
