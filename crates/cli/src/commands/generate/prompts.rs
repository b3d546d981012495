//! A file of prompts.

use std::path::Path;

use crate::error::CliError;

/// A text to continue.
pub(super) struct Prompt {
    pub(super) text: String,
    /// Where it was written.
    pub(super) place: Option<String>,
}

/// Reads a file of one JSON object a line; empty lines are passed over.
pub(super) fn read(file: &Path) -> Result<Vec<Prompt>, CliError> {
    #[derive(serde::Deserialize)]
    struct Line {
        prompt: String,
    }
    let text = std::fs::read_to_string(file).map_err(|error| CliError::read(file, error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompt = |(index, line): (usize, &str)| {
        let place = format!("{}, line {}", file.display(), index + 1);
        match serde_json::from_str::<Line>(line) {
            Ok(line) => Ok(Prompt { text: line.prompt, place: Some(place) }),
            Err(error) => Err(CliError::input(format!("{place}: {error}"))
                .at(file)
                .with_help(r#"each line is an object such as {"prompt": "Once upon"}"#)),
        }
    };
    lines.map(prompt).collect()
}
