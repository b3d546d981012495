//! The timeline of `--profile`.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use terrace_base::fs::AtomicFile;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

/// A file that gathers the spans of our own crates, in Chrome's trace format.
pub(crate) struct Timeline {
    path: PathBuf,
    sink: Sink,
    guard: FlushGuard,
}

impl Timeline {
    /// Opens the file; gives what the spans are sent to.
    pub(crate) fn begin<S>(path: &Path) -> Result<(impl Layer<S>, Self), CliError>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let file = AtomicFile::create(path).map_err(|error| {
            let help = "--profile names a file in a folder that can be written";
            CliError::unwritable(path, error).with_help(help)
        })?;
        let sink = Sink(Arc::new(Mutex::new(Ok(BufWriter::new(file)))));
        let (layer, guard) =
            ChromeLayerBuilder::new().writer(sink.clone()).include_args(true).build();
        let own = Targets::new().with_target("terrace", LevelFilter::TRACE);
        Ok((layer.with_filter(own), Self { path: path.to_owned(), sink, guard }))
    }

    /// Puts the file in its place; says if it could not be written, and how the command then ends: what
    /// it did is not lost with it.
    pub(crate) fn finish(self, context: &Context) -> ExitCode {
        // The last spans are written when the guard goes.
        drop(self.guard);
        match self.sink.commit() {
            Ok(()) => ExitCode::Done,
            Err(error) => {
                let path = self.path.display();
                context.say(&format!("the timeline {path} was not written: {error}"));
                ExitCode::Environment
            }
        }
    }
}

/// Remembers the first error and takes everything after it: what writes here would panic.
#[derive(Clone)]
struct Sink(Arc<Mutex<io::Result<BufWriter<AtomicFile>>>>);

impl Sink {
    fn attempt(&self, work: impl FnOnce(&mut BufWriter<AtomicFile>) -> io::Result<()>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(file) = &mut *state
            && let Err(error) = work(file)
        {
            *state = Err(error);
        }
    }

    fn commit(self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = std::mem::replace(&mut *state, Err(io::ErrorKind::NotConnected.into()));
        written?.into_inner().map_err(io::IntoInnerError::into_error)?.commit()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|file| file.write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(Write::flush);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_is_told_at_the_end_and_leaves_no_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("timeline.json");
        let file = AtomicFile::create(&path).unwrap();
        let mut sink = Sink(Arc::new(Mutex::new(Ok(BufWriter::new(file)))));
        sink.write_all(b"[").unwrap();
        sink.attempt(|_| Err(io::ErrorKind::StorageFull.into()));
        sink.write_all(b"]").unwrap();
        sink.flush().unwrap();
        assert_eq!(sink.commit().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
