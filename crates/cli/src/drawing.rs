//! Figures as files.

use std::path::{Path, PathBuf};

use terrace_base::fs;
use terrace_figure::Figure;

use crate::error::CliError;

/// Writes a figure as `STEM.svg` and `STEM.png`.
pub(crate) fn draw(figure: &Figure, stem: &Path) -> Result<(), CliError> {
    let named = |ending: &str| {
        let mut name = stem.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let svg = figure.svg().map_err(CliError::environment)?;
    let png = figure.png().map_err(CliError::environment)?;
    for (ending, bytes) in [(".svg", svg.as_bytes()), (".png", &png[..])] {
        let path = named(ending);
        fs::write_atomic(&path, bytes)
            .map_err(|error| CliError::environment(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}
