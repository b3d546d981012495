//! `terrace prepare`: documents to an edition.

mod watch;

use std::path::Path;

use serde::Serialize;
use terrace_base::format_count;
use terrace_config::{PrepareConfig, Source, load_prepare};
use terrace_data::{BadRow, Contamination, Counts, MANIFEST_FILE, Manifest};
use terrace_prepare::{Options, Report};

use self::watch::Watch;
use super::inspect::edition::{bad_rows, contamination, counts};
use crate::args::PrepareArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, duration, grouped};

/// What was prepared, as a program reads it.
#[derive(Serialize)]
struct Answer<'a> {
    output: &'a Path,
    reused: bool,
    seconds: f64,
    documents_per_second: f64,
    tokens_per_second: f64,
    #[serde(flatten)]
    training: Part<'a>,
    held_out: Option<Part<'a>>,
}

/// One part of the edition.
#[derive(Serialize)]
struct Part<'a> {
    source: &'a str,
    windows: u64,
    tokens: u64,
    documents: u64,
    counts: Counts,
    bad_rows: &'a [BadRow],
    #[serde(skip_serializing_if = "Option::is_none")]
    contamination: Option<&'a Contamination>,
    fingerprint: String,
}

/// Prepares one source.
pub(crate) fn run(args: &PrepareArgs, context: &Context) -> Result<ExitCode, CliError> {
    let config = load_prepare(&args.file, &args.overrides.pairs())?.config;
    let report = prepare(&config, &args.output, args.force, context)?;
    context.answer(&Answer::of(&report), || text(&report));
    Ok(ExitCode::Done)
}

/// Prepares the edition of a run's source if it is not there yet and the run says how.
///
/// # Errors
///
/// The source cannot be prepared. One of which the run does not say how is left to the plan, which
/// says what is missing.
pub(crate) fn prepare_source(
    name: &str,
    source: &Source,
    context: &Context,
) -> Result<(), CliError> {
    let Some(file) = &source.prepare else { return Ok(()) };
    if source.edition.join(MANIFEST_FILE).is_file() {
        return Ok(());
    }
    context.note(&format!("source {name} is not prepared yet: preparing {}", file.display()));
    let config = load_prepare(file, &[])?.config;
    let report = prepare(&config, &source.edition, false, context)?;
    context.note(&summary(&report));
    Ok(())
}

fn prepare(
    config: &PrepareConfig,
    output: &Path,
    force: bool,
    context: &Context,
) -> Result<Report, CliError> {
    let store_options = context.environment.object_store_options.clone();
    let options = Options { force, store_options, ..Options::default() };
    let watch = Watch::new(context, &config.source);
    Ok(terrace_prepare::run(config, output, &options, &watch)?)
}

impl<'a> Answer<'a> {
    fn of(report: &'a Report) -> Self {
        Self {
            output: &report.output,
            reused: report.reused,
            seconds: report.seconds,
            documents_per_second: report.documents_per_second,
            tokens_per_second: report.tokens_per_second,
            training: Part::of(&report.manifest),
            held_out: report.held_out.as_ref().map(Part::of),
        }
    }
}

impl<'a> Part<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        Self {
            source: &manifest.source,
            windows: manifest.windows,
            tokens: manifest.tokens,
            documents: manifest.documents,
            counts: manifest.counts,
            bad_rows: &manifest.bad_rows,
            contamination: manifest.contamination.as_ref(),
            fingerprint: manifest.fingerprint.to_string(),
        }
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::new(["part", "documents", "windows", "tokens", "bytes of text"]);
    let parts = [("training", Some(&report.manifest)), ("held out", report.held_out.as_ref())];
    for (name, manifest) in parts.iter().filter_map(|(name, part)| Some((*name, (*part)?))) {
        table.row([
            name.to_owned(),
            grouped(manifest.documents),
            grouped(manifest.windows),
            grouped(manifest.tokens),
            grouped(manifest.text_bytes),
        ]);
    }
    let mut text = format!("{}\n{}\n", table.render(), counts(&report.manifest).render());
    if let Some(found) = &report.manifest.contamination {
        text.push_str(&format!("{}\n", contamination(found).render()));
    }
    let bad = &report.manifest.bad_rows;
    if !bad.is_empty() {
        text.push_str(&format!("{}\n", bad_rows(bad).render()));
    }
    text + &summary(report)
}

fn summary(report: &Report) -> String {
    let output = report.output.display();
    if report.reused {
        return format!("{output} is there already, made from the same input in the same way");
    }
    format!(
        "{output}: {} documents in {}, {} documents/s, {} tokens/s",
        grouped(report.manifest.counts.read),
        duration(report.seconds),
        format_count(report.documents_per_second.round() as u64),
        format_count(report.tokens_per_second.round() as u64)
    )
}
