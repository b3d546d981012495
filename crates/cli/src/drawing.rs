//! Figures as files.

use std::error::Error;
use std::path::{Path, PathBuf};

use terrace_base::fs;
use terrace_figure::Figure;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// The names of a figure's two files.
fn files(stem: &Path) -> [PathBuf; 2] {
    [".svg", ".png"].map(|ending| {
        let mut name = stem.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    })
}

/// Whether a figure can be written there, asked before the work that it is to show.
pub(crate) fn check(stem: Option<&Path>) -> Result<(), CliError> {
    for file in stem.map(files).into_iter().flatten() {
        // Dropped without a commit, it leaves nothing.
        fs::AtomicFile::create(&file).map_err(|error| {
            let help = "--picture takes a path without ending, in a folder that can be written";
            CliError::unwritable(&file, error).with_help(help)
        })?;
    }
    Ok(())
}

/// Writes a figure, if one is wanted, as `STEM.svg` and `STEM.png`; says if that fails, and how the
/// command then ends: what the figure shows is not lost with it.
pub(crate) fn write(
    stem: Option<&Path>,
    context: &Context,
    figure: impl FnOnce() -> Figure,
) -> ExitCode {
    let Some(stem) = stem else { return ExitCode::Done };
    match draw(&figure(), stem) {
        Ok(()) => ExitCode::Done,
        Err(error) => {
            context.say(&format!("the figure {} was not written: {error}", stem.display()));
            ExitCode::Environment
        }
    }
}

fn draw(figure: &Figure, stem: &Path) -> Result<(), Box<dyn Error>> {
    let [svg, png] = files(stem);
    fs::write_atomic(&svg, figure.svg()?.as_bytes())?;
    fs::write_atomic(&png, &figure.png()?)?;
    Ok(())
}
