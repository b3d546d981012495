//! The way of all text for people: to stderr, above the progress bars, or held back for a while.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressDrawTarget};
use rustix::stdio::dup2_stderr;
use rustix::termios::tcgetattr;

/// The lines that are kept while text is held back; of more, the newest are kept.
const HELD_LINES: usize = 1000;

/// How long the last held lines are waited for; a child process may keep their pipe open.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes text for people to stderr; shared between threads.
#[derive(Clone)]
pub(crate) struct Speech {
    bars: MultiProgress,
    held: Arc<Mutex<Option<Held>>>,
}

/// Stderr while it is led into a pipe.
struct Held {
    stderr: OwnedFd,
    lines: Arc<Mutex<Lines>>,
    ended: Receiver<()>,
}

/// The newest lines of a text.
#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Vec<u8>>,
    dropped: u64,
}

impl Default for Speech {
    fn default() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { bars, held: Arc::default() }
    }
}

impl Speech {
    /// The bars that text is written above.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes text to stderr and ends the line.
    pub(crate) fn line(&self, text: &str) {
        // Locked: a new line must not overtake what is just being released.
        let _held = self.held();
        self.write(&[text.trim_end_matches('\n').as_bytes()]);
    }

    /// Holds back what this process writes to stderr, a terminal, from now on: it is drawn on.
    ///
    /// All of it, also what libraries and panics write; and while it is held back, stderr cannot
    /// fail, whatever becomes of the terminal. Some libraries panic when it does.
    ///
    /// # Errors
    ///
    /// The system gives no pipe or thread.
    pub(crate) fn hold(&self) -> io::Result<()> {
        let mut held = self.held();
        if held.is_some() {
            return Ok(());
        }
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let (reader, writer) = io::pipe()?;
        let lines = Arc::default();
        let (end, ended) = channel();
        let kept = Arc::clone(&lines);
        let collect = move || {
            collect(reader, &kept);
            let _ = end.send(());
        };
        std::thread::Builder::new().name("held-text".to_owned()).spawn(collect)?;
        dup2_stderr(writer)?;
        *held = Some(Held { stderr, lines, ended });
        Ok(())
    }

    /// Whether text is held back.
    pub(crate) fn is_held(&self) -> bool {
        self.held().is_some()
    }

    /// Writes what was held back, and holds nothing back any more.
    ///
    /// A terminal that has gone away stays cut off: nobody would read the text, and what draws
    /// bars panics on it.
    pub(crate) fn release(&self) {
        let mut held = self.held();
        let is_there = |held: &mut Held| tcgetattr(&held.stderr).is_ok();
        let Some(waiting) = held.take_if(is_there) else { return };
        // This closes the pipe as well.
        let _ = dup2_stderr(&waiting.stderr);
        let _ = waiting.ended.recv_timeout(PATIENCE);
        let lines = std::mem::take(&mut *lock(&waiting.lines)).into_lines();
        self.write(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        lock(&self.held)
    }

    fn write(&self, lines: &[&[u8]]) {
        self.bars.suspend(|| {
            let mut stderr = io::stderr().lock();
            for line in lines {
                // Nobody is left to be told that stderr is closed. In one piece, since a pipe may
                // have several writers.
                let _ = stderr.write_all(&[line, &b"\n"[..]].concat());
            }
        });
    }
}

/// Collects lines until nobody can write any more.
fn collect(reader: PipeReader, lines: &Mutex<Lines>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lock(lines).push(std::mem::take(&mut line));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn push(&mut self, line: Vec<u8>) {
        if self.kept.len() == HELD_LINES {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(line);
    }

    fn into_lines(self) -> Vec<Vec<u8>> {
        let gap = format!("({} earlier lines are left out)", self.dropped).into_bytes();
        (self.dropped > 0).then_some(gap).into_iter().chain(self.kept).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_lines_the_newest_are_kept_and_the_gap_is_told() {
        let (reader, mut writer) = io::pipe().unwrap();
        let lines = Mutex::default();
        std::thread::scope(|scope| {
            scope.spawn(|| collect(reader, &lines));
            for number in 0..HELD_LINES + 2 {
                writeln!(writer, "{number}").unwrap();
            }
            write!(writer, "no end").unwrap();
            drop(writer);
        });
        let lines = lines.into_inner().unwrap().into_lines();
        assert_eq!(lines.len(), HELD_LINES + 1);
        assert_eq!(lines[0], b"(3 earlier lines are left out)");
        assert_eq!(lines[1], b"3");
        assert_eq!(lines[HELD_LINES], b"no end");
    }
}
