//! A file that one process at a time can hold.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

/// An advisory lock on a file, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct LockFile {
    file: File,
}

impl LockFile {
    /// Takes the lock at once or not at all, and leaves `note` in the file for those who do not
    /// get it.
    ///
    /// # Errors
    ///
    /// Somebody holds it ([`TryLockError::WouldBlock`]), or the file cannot be written.
    pub fn acquire(path: &Path, note: &str) -> Result<Self, TryLockError> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(TryLockError::Error)?;
        file.try_lock()?;
        // Only the holder writes, and the file is never replaced: a lock belongs to the inode.
        file.set_len(0)
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(TryLockError::Error)?;
        Ok(Self { file })
    }
}

/// Closing the file would not be enough: a child that another thread has just forked shares it until
/// it executes its program.
impl Drop for LockFile {
    fn drop(&mut self) {
        // A lock that cannot be given up explicitly goes with the last descriptor.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let first = LockFile::acquire(&path, "first holder\n").unwrap();
        let second = LockFile::acquire(&path, "second");
        assert!(matches!(second, Err(TryLockError::WouldBlock)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first holder\n");
        drop(first);
        let _second = LockFile::acquire(&path, "second").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
    }
}
