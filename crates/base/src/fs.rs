//! The only place where Terrace writes files: whole, or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

mod lock;

pub use lock::LockFile;

/// Creates a folder and its parents.
///
/// # Errors
///
/// The folder cannot be made.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Removes a folder and what is in it; a folder that is not there is no error.
///
/// # Errors
///
/// Something in it cannot be removed.
pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a folder so that it is never seen half removed: it loses its name first.
///
/// After a kill, a `.tmp-` folder stays, which [`remove_temporaries`] removes.
///
/// # Errors
///
/// The folder is not there, or something in it cannot be removed.
pub fn discard_dir(path: &Path) -> io::Result<()> {
    let nameless = temporary_sibling(path)?.with_extension("discarded");
    remove_dir_all(&nameless)?;
    std::fs::rename(path, &nameless)?;
    sync_parent(path)?;
    remove_dir_all(&nameless)
}

/// The bytes that can still be written to the file system that holds `path`.
///
/// # Errors
///
/// The path is not there or its file system does not say.
pub fn available_bytes(path: &Path) -> io::Result<u64> {
    let figures = rustix::fs::statvfs(path)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Gives a file a second name, so that its content is on disk once; where the file system cannot,
/// copies it. Says whether it was a link.
///
/// The content must not be written to under either name afterwards: this is for files that are
/// replaced, never changed.
///
/// # Errors
///
/// The file is not there, the new name is taken, or the copy cannot be written.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<bool> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) =>
        {
            Err(error)
        }
        Err(_) => std::fs::copy(from, to).map(|_| false),
    }
}

/// As [`link_or_copy`], for all files of a folder and the folders in it.
///
/// # Errors
///
/// As [`link_or_copy`].
pub fn link_or_copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_or_copy_tree(&entry.path(), &target)?;
        } else {
            link_or_copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Replaces a file's content in one step: after a crash it is the old or the new, never a part.
///
/// # Errors
///
/// The bytes could not be brought to disk; the file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file that appears under its name only when it is complete and on disk.
///
/// Dropped without [`commit`](Self::commit), it leaves nothing behind.
pub struct AtomicFile {
    writer: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
}

impl AtomicFile {
    /// Opens a temporary file beside `path`.
    ///
    /// # Errors
    ///
    /// The temporary file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let temporary = temporary_sibling(path)?;
        let file = File::create(&temporary)?;
        Ok(Self {
            writer: Some(BufWriter::with_capacity(1 << 20, file)),
            temporary,
            target: path.to_owned(),
        })
    }

    /// Brings the content to disk and gives the file its name.
    ///
    /// # Errors
    ///
    /// The content could not be written; the target is then as it was.
    pub fn commit(mut self) -> io::Result<()> {
        let writer = self.writer.take().expect("commit takes the only writer");
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&self.temporary, &self.target)?;
        sync_parent(&self.target)
    }

    fn writer(&mut self) -> &mut BufWriter<File> {
        self.writer.as_mut().expect("the writer lives until commit")
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        drop(self.writer.take());
        // After a commit the temporary name is gone, and this finds nothing.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// A folder that appears under its name only when everything in it is on disk.
///
/// Dropped without [`commit`](Self::commit), it leaves nothing behind; after a kill, a folder
/// whose name begins with `.tmp-` stays, which nobody reads and [`remove_temporaries`] removes.
pub struct AtomicDirectory {
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl AtomicDirectory {
    /// Makes a temporary folder beside `path`.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let temporary = temporary_sibling(path)?;
        remove_dir_all(&temporary)?;
        std::fs::create_dir_all(&temporary)?;
        Ok(Self { temporary, target: path.to_owned(), committed: false })
    }

    /// Where to write before the commit.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Brings all files to disk and gives the folder its name, replacing one that has it.
    ///
    /// # Errors
    ///
    /// Something could not be brought to disk; the target is then as it was.
    pub fn commit(mut self) -> io::Result<()> {
        sync_tree(&self.temporary)?;
        if self.target.exists() {
            replace_dir(&self.temporary, &self.target)?;
        } else {
            std::fs::rename(&self.temporary, &self.target)?;
        }
        self.committed = true;
        sync_parent(&self.target)
    }
}

impl Drop for AtomicDirectory {
    fn drop(&mut self) {
        if !self.committed {
            let _ = remove_dir_all(&self.temporary);
        }
    }
}

/// Gives `new` the name of `target`, which exists, and removes what had it.
fn replace_dir(new: &Path, target: &Path) -> io::Result<()> {
    if exchange(new, target).is_ok() {
        sync_parent(target)?;
        return remove_dir_all(new);
    }
    // The file system cannot exchange names in one step; the old folder is moved aside first.
    let old = temporary_sibling(target)?.with_extension("old");
    remove_dir_all(&old)?;
    std::fs::rename(target, &old)?;
    std::fs::rename(new, target)?;
    remove_dir_all(&old)
}

#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes what killed writers left in `directory`.
///
/// # Errors
///
/// The folder cannot be read or a leftover cannot be removed.
pub fn remove_temporaries(directory: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".tmp-") {
            if entry.file_type()?.is_dir() {
                remove_dir_all(&entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
            removed += 1;
        }
    }
    Ok(removed)
}

/// A log of lines that is only ever appended to.
#[derive(Debug)]
pub struct AppendFile {
    writer: BufWriter<File>,
    length: u64,
}

impl AppendFile {
    /// Opens a log and cuts it to `length` bytes, so that lines written after the state that a
    /// resumed run starts from are forgotten; `None` keeps all.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or is shorter than `length`.
    pub fn open(path: &Path, length: Option<u64>) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let existing = file.metadata()?.len();
        let length = length.unwrap_or(existing);
        if existing < length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} has {existing} bytes, expected at least {length}", path.display()),
            ));
        }
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self { writer: BufWriter::new(file), length })
    }

    /// Appends one line and hands it to the operating system.
    ///
    /// # Errors
    ///
    /// The line could not be written.
    pub fn append_line(&mut self, line: &str) -> io::Result<()> {
        self.writer.write_all(line.as_bytes())?;
        self.writer.write_all(b"\n")?;
        self.length += line.len() as u64 + 1;
        self.writer.flush()
    }

    /// What brings the lines so far to disk, also from another thread; each line is the operating
    /// system's already.
    ///
    /// # Errors
    ///
    /// The process has too many open files.
    pub fn handle(&self) -> io::Result<AppendHandle> {
        self.writer.get_ref().try_clone().map(AppendHandle)
    }

    /// The log's length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// A second hold on an [`AppendFile`].
#[derive(Debug)]
pub struct AppendHandle(File);

impl AppendHandle {
    /// Brings all lines to disk.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn temporary_sibling(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} has no name", path.display()))
    })?;
    let mut temporary = std::ffi::OsString::from(format!(".tmp-{}-", std::process::id()));
    temporary.push(name);
    let parent = parent_of(path);
    std::fs::create_dir_all(parent)?;
    Ok(parent.join(temporary))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent_of(path))?.sync_all()
}

fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_dropped_file_leaves_the_old_one() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        write_atomic(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(home.path()), ["state.json"]);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("checkpoint");
        let folder = AtomicDirectory::create(&target).unwrap();
        write_atomic(&folder.path().join("a"), b"1").unwrap();
        assert!(!target.exists());
        folder.commit().unwrap();
        assert_eq!(names(&target), ["a"]);

        let folder = AtomicDirectory::create(&target).unwrap();
        write_atomic(&folder.path().join("b"), b"2").unwrap();
        folder.commit().unwrap();
        assert_eq!(names(&target), ["b"]);

        drop(AtomicDirectory::create(&target).unwrap());
        assert_eq!(names(home.path()), ["checkpoint"]);
    }

    #[test]
    fn a_discarded_folder_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("checkpoint");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a"), b"1").unwrap();
        discard_dir(&folder).unwrap();
        assert!(names(home.path()).is_empty());
        assert!(discard_dir(&folder).is_err());
        assert!(available_bytes(home.path()).unwrap() > 0);
    }

    #[test]
    fn leftovers_are_removed() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".tmp-1-x")).unwrap();
        std::fs::write(home.path().join(".tmp-1-y"), b"").unwrap();
        assert_eq!(remove_temporaries(home.path()).unwrap(), 2);
        assert!(names(home.path()).is_empty());
    }

    #[test]
    fn a_log_can_be_cut_back() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("metrics.jsonl");
        let mut log = AppendFile::open(&path, None).unwrap();
        log.append_line("one").unwrap();
        let kept = log.length();
        log.append_line("two").unwrap();
        drop(log);
        let mut log = AppendFile::open(&path, Some(kept)).unwrap();
        log.append_line("three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nthree\n");
        assert!(AppendFile::open(&path, Some(1000)).is_err());
    }

    #[test]
    fn a_second_name_outlives_the_first() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        write_atomic(&path("tree/inner/one"), b"content").unwrap();
        assert!(link_or_copy(&path("tree/inner/one"), &path("two")).unwrap());
        link_or_copy_tree(&path("tree"), &path("other")).unwrap();
        // Replacing the first leaves the others as they were.
        write_atomic(&path("tree/inner/one"), b"new").unwrap();
        remove_dir_all(&path("tree")).unwrap();
        for name in ["two", "other/inner/one"] {
            assert_eq!(std::fs::read(path(name)).unwrap(), b"content", "{name}");
        }
        assert!(link_or_copy(&path("none"), &path("three")).is_err());
        assert!(link_or_copy(&path("two"), &path("other/inner/one")).is_err());
    }
}
