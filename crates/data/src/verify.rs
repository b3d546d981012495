//! Hashing an edition again.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use terrace_base::Fingerprint;

use crate::{Error, FileEntry, Manifest, Result};

/// Bytes that are read, and then hashed on all cores, at a time.
const PIECE: usize = 16 << 20;

/// Hashes every file of the edition in `directory` on all cores and compares it with the manifest;
/// `progress` is told how many bytes have been hashed since it was last told.
///
/// # Errors
///
/// Everything that is wrong: a manifest that cannot be trusted, or each file that is missing, cut
/// or damaged.
pub fn verify(directory: &Path, progress: &mut dyn FnMut(u64)) -> Result<Manifest, Vec<Error>> {
    let manifest = Manifest::read(directory).map_err(|error| vec![error])?;
    let errors: Vec<Error> = manifest
        .files()
        .filter_map(|entry| verify_file(directory, &entry, progress).err())
        .collect();
    if errors.is_empty() { Ok(manifest) } else { Err(errors) }
}

fn verify_file(directory: &Path, entry: &FileEntry, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let path = directory.join(&entry.file);
    let read = |source| Error::Read { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::MissingShard { path });
        }
        result => result.map_err(read)?,
    };
    let found = file.metadata().map_err(read)?.len();
    if found != entry.bytes {
        return Err(Error::ShardSize { path, found, expected: entry.bytes });
    }
    let mut hasher = blake3::Hasher::new();
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        (&mut file).take(PIECE as u64).read_to_end(&mut piece).map_err(read)?;
        if piece.is_empty() {
            break;
        }
        hasher.update_rayon(&piece);
        progress(piece.len() as u64);
    }
    let found = Fingerprint(*hasher.finalize().as_bytes());
    if found == entry.blake3 {
        return Ok(());
    }
    Err(Error::ShardHash { path, found, expected: entry.blake3 })
}
