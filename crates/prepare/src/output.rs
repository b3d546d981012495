//! What may already lie where an edition is to be written.

use std::path::Path;

use serde_json::Value;
use terrace_base::Fingerprint;
use terrace_data::{Edition, FileEntry, Manifest};

use crate::settings::difference;
use crate::{Error, Result};

/// What was found at the output.
pub(crate) enum Found {
    /// Nothing that is in the way.
    Room,
    /// The very edition that is wanted, and its held-out part.
    Same(Box<Manifest>, Option<Box<Manifest>>),
}

/// What is wanted at the output.
pub(crate) struct Wanted<'a> {
    pub(crate) tokenizer: Fingerprint,
    pub(crate) settings: &'a Value,
    /// Settings of the held-out part, if there is to be one.
    pub(crate) held_out: Option<&'a Value>,
}

/// Looks at the output; with `force`, an edition of any kind makes room.
///
/// # Errors
///
/// Something lies there that is no edition, or an edition of something else.
pub(crate) fn inspect(output: &Path, wanted: &Wanted<'_>, force: bool) -> Result<Found> {
    if output.exists() && !output.is_dir() {
        return Err(Error::OutputTaken { path: output.to_owned() });
    }
    let manifest = match Manifest::read(output) {
        Err(terrace_data::Error::NoEdition { .. }) if is_free(output)? => return Ok(Found::Room),
        Err(terrace_data::Error::NoEdition { .. }) => {
            return Err(Error::OutputTaken { path: output.to_owned() });
        }
        _ if force => return Ok(Found::Room),
        result => result?,
    };
    let other_tokenizer = (manifest.tokenizer != wanted.tokenizer)
        .then(|| format!("another tokenizer ({})", manifest.tokenizer.short()));
    if let Some(difference) =
        other_tokenizer.or_else(|| difference(&manifest.settings, wanted.settings))
    {
        return Err(Error::OutputDiffers { path: output.to_owned(), difference });
    }
    // The right edition with a damaged file is what the user asks to have made again.
    Ok(whole(output, wanted).unwrap_or(Found::Room))
}

fn is_free(output: &Path) -> Result<bool> {
    match std::fs::read_dir(output) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(Error::Write { path: output.to_owned(), source }),
    }
}

fn whole(output: &Path, wanted: &Wanted<'_>) -> Option<Found> {
    let edition = Edition::open(output).ok()?;
    // What an edition is trained on is looked at when it is opened; what lies beside it is not.
    let is_there = |entry: &FileEntry| {
        std::fs::metadata(output.join(&entry.file)).is_ok_and(|found| found.len() == entry.bytes)
    };
    if !edition.manifest().files().all(|entry| is_there(&entry)) {
        return None;
    }
    let held_out = edition.open_held_out().ok()?.map(|edition| edition.manifest().clone());
    let agrees = match (&held_out, wanted.held_out) {
        (None, None) => true,
        (Some(found), Some(wanted)) => difference(&found.settings, wanted).is_none(),
        _ => false,
    };
    agrees.then(|| Found::Same(Box::new(edition.manifest().clone()), held_out.map(Box::new)))
}
