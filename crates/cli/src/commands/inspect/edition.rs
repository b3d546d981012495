//! Describing and verifying an edition.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use terrace_base::format_bytes;
use terrace_data::{
    BadRow, Contamination, Edition, Error, MANIFEST_FILE, Manifest, TaskContamination,
    held_out_directory,
};

use super::{Description, Look, Problem, fields};
use crate::error::{CliError, chain};
use crate::table::{Table, facts, grouped};

/// Describes the edition and its held-out part.
pub(super) fn describe(look: &Look<'_>) -> Result<Description, CliError> {
    let mut description = Description::default();
    let manifest = one(look, &mut description.problems);
    if let Some(manifest) = &manifest {
        description.facts = fields(manifest);
        description.text = text(manifest);
    }
    let held_out = held_out_directory(look.path);
    if held_out.join(MANIFEST_FILE).is_file() {
        let manifest = one(&look.at(&held_out), &mut description.problems);
        if let Some(manifest) = &manifest {
            description.facts.insert("held_out".to_owned(), fields(manifest).into());
            description.text.push_str("\nheld out\n");
            description.text.push_str(&text(manifest));
        }
    }
    Ok(description)
}

/// Reads one manifest and adds what is wrong with its shards to `problems`.
fn one(look: &Look<'_>, problems: &mut Vec<Problem>) -> Option<Manifest> {
    let manifest = match Manifest::read(look.path) {
        Ok(manifest) => manifest,
        Err(error) => {
            problems.push(problem(look.path, &error));
            return None;
        }
    };
    if look.verify {
        verify(look, &manifest, problems);
    } else if let Err(error) = Edition::open(look.path) {
        problems.push(problem(look.path, &error));
    }
    Some(manifest)
}

fn verify(look: &Look<'_>, manifest: &Manifest, problems: &mut Vec<Problem>) {
    let bytes = manifest.files().map(|file| file.bytes).sum();
    let progress = look.hashing(bytes);
    let hashed = Cell::new(0);
    let result = terrace_data::verify(look.path, &mut |more| {
        hashed.set(hashed.get() + more);
        progress.update(hashed.get(), String::new);
    });
    match result {
        Err(errors) => problems.extend(errors.iter().map(|error| problem(look.path, error))),
        // The hashes are right; what remains is that a reader can open it.
        Ok(_) => {
            problems.extend(Edition::open(look.path).err().map(|error| problem(look.path, &error)));
        }
    }
}

fn problem(directory: &Path, error: &Error) -> Problem {
    let file = match error {
        Error::Read { path, .. }
        | Error::ManifestSyntax { path, .. }
        | Error::Manifest { path, .. }
        | Error::MissingShard { path }
        | Error::ShardSize { path, .. }
        | Error::Shard { path, .. }
        | Error::ShardHash { path, .. } => path.clone(),
        _ => PathBuf::from(directory),
    };
    Problem { file, message: chain(error) }
}

fn text(manifest: &Manifest) -> String {
    let bytes: u64 = manifest.shards.iter().map(|shard| shard.bytes).sum();
    let (targets, text_bytes) = (manifest.target_tokens, manifest.target_bytes);
    let per_token = text_bytes as f64 / targets.max(1) as f64;
    let mut text = facts(&[
        ("source", manifest.source.clone()),
        ("documents", grouped(manifest.documents)),
        ("tokens", grouped(manifest.tokens)),
        (
            "windows",
            format!("{} of {} targets", grouped(manifest.windows), manifest.sequence_length),
        ),
        ("targets", format!("{}, {per_token:.3} bytes of text each", grouped(targets))),
        ("text", format!("{} bytes", grouped(manifest.text_bytes))),
        ("packing", spelt(&manifest.packing)),
        ("vocabulary", format!("{} ids as {}", manifest.vocab_size, spelt(&manifest.token_type))),
        ("tokenizer", manifest.tokenizer.to_string()),
        ("shards", format!("{}, {}", manifest.shards.len(), format_bytes(bytes))),
        ("fingerprint", manifest.fingerprint.to_string()),
    ]);
    text.push('\n');
    text.push_str(&counts(manifest).render());
    if let Some(found) = &manifest.contamination {
        text.push('\n');
        text.push_str(&contamination(found).render());
    }
    if !manifest.bad_rows.is_empty() {
        text.push('\n');
        text.push_str(&bad_rows(&manifest.bad_rows).render());
    }
    text
}

/// What became of the rows, those kinds that occurred.
pub(in crate::commands) fn counts(manifest: &Manifest) -> Table {
    let (counts, dropped, bad) = (manifest.counts, manifest.counts.dropped, manifest.counts.bad);
    let mut table = Table::new(["rows", "count"]);
    let always = [("read", counts.read), ("kept", counts.kept)];
    let sometimes = [
        ("dropped: empty", dropped.empty),
        ("dropped: too short", dropped.too_short),
        ("dropped: too long", dropped.too_long),
        ("dropped: duplicate", dropped.duplicate),
        ("dropped: in the held-out part", dropped.in_held_out),
        ("dropped: text of a task", dropped.contaminated),
        ("bad: invalid UTF-8", bad.invalid_utf8),
        ("bad: no text", bad.null),
        ("bad: oversized", bad.oversized),
        ("bad: malformed", bad.malformed),
    ];
    let sometimes = sometimes.into_iter().filter(|(_, count)| *count > 0);
    for (name, count) in always.into_iter().chain(sometimes) {
        table.row([name.to_owned(), grouped(count)]);
    }
    table
}

/// What documents share with the items of tasks.
pub(in crate::commands) fn contamination(found: &Contamination) -> Table {
    let mut table =
        Table::new(["task", "items", "too short to find", "found", "documents that have them"]);
    for task in &found.tasks {
        let counts = [task.items, task.items_without_ngrams, task.items_found, task.documents];
        table.row(std::iter::once(task.task.clone()).chain(counts.map(grouped)));
    }
    if found.tasks.len() > 1 {
        let sum =
            |count: fn(&TaskContamination) -> u64| grouped(found.tasks.iter().map(count).sum());
        table.row([
            "all".to_owned(),
            sum(|task| task.items),
            sum(|task| task.items_without_ngrams),
            sum(|task| task.items_found),
            grouped(found.documents),
        ]);
    }
    table
}

/// The first rows that could not be used.
pub(in crate::commands) fn bad_rows(rows: &[BadRow]) -> Table {
    let mut table = Table::new(["bad row in", "row", "what", "id"]);
    for row in rows {
        let id = row.id.clone().unwrap_or_default();
        table.row([row.file.clone(), row.row.to_string(), spelt(&row.kind), id]);
    }
    table
}

/// A choice as files spell it.
fn spelt(choice: &impl serde::Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("choices are names, found {other:?}"),
    }
}
