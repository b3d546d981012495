//! One process per run directory.

use std::fs::TryLockError;

use terrace_base::fs::LockFile;

use crate::{Error, RunLayout, Store};

/// The right to write into a run directory, given up when dropped or when the process ends.
///
/// The operating system releases the lock even after `kill -9`, so there is never a stale one.
#[derive(Debug)]
pub struct RunLock {
    layout: RunLayout,
    _file: LockFile,
}

impl RunLock {
    /// Makes the run's folders if they are not there, and takes the lock.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] where another process has it, or the folder cannot be written.
    pub fn acquire(layout: &RunLayout) -> Result<Self, Error> {
        layout.create()?;
        let path = layout.lock();
        match LockFile::acquire(&path, &format!("{}\n", std::process::id())) {
            Ok(file) => Ok(Self { layout: layout.clone(), _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                root: layout.root.clone(),
                holder: std::fs::read_to_string(&path)
                    .ok()
                    .and_then(|note| note.trim().parse().ok()),
            }),
            Err(TryLockError::Error(source)) => Err(Error::Write { path, source }),
        }
    }

    /// The run that is locked.
    #[must_use]
    pub fn layout(&self) -> &RunLayout {
        &self.layout
    }

    /// The run's checkpoints, cleared of what a killed process left half written.
    ///
    /// # Errors
    ///
    /// A leftover cannot be removed.
    pub fn store(&self) -> Result<Store, Error> {
        let store = Store::open(self.layout.checkpoints());
        store.remove_leftovers()?;
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    const ROOT: &str = "TERRACE_TEST_LOCK_ROOT";

    #[test]
    #[ignore = "the other process of `the_lock_dies_with_its_process`"]
    fn hold_the_lock() {
        let layout = RunLayout::new(std::env::var_os(ROOT).expect("set by the test"));
        let _lock = RunLock::acquire(&layout).unwrap();
        let mut stdout = std::io::stdout();
        writeln!(stdout, "\nheld").and_then(|()| stdout.flush()).unwrap();
        let _ = std::io::stdin().read(&mut [0]);
    }

    #[test]
    fn the_lock_dies_with_its_process() {
        let home = tempfile::tempdir().unwrap();
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "lock::tests::hold_the_lock", "--nocapture"])
            .env(ROOT, home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        let held = lines.map_while(Result::ok).any(|line| line == "held");
        assert!(held, "the other process did not get the lock");

        let layout = RunLayout::new(home.path());
        let refused = RunLock::acquire(&layout).unwrap_err();
        assert!(
            matches!(&refused, Error::Locked { holder: Some(id), .. } if *id == holder.id()),
            "{refused}"
        );
        holder.kill().unwrap();
        holder.wait().unwrap();
        RunLock::acquire(&layout).unwrap();
    }

    #[test]
    fn the_run_can_be_taken_again_once_given_up() {
        let home = tempfile::tempdir().unwrap();
        let layout = RunLayout::new(home.path().join("run"));
        let lock = RunLock::acquire(&layout).unwrap();
        assert!(RunLock::acquire(&layout).is_err());
        drop(lock);
        assert_eq!(RunLock::acquire(&layout).unwrap().layout(), &layout);
    }
}
