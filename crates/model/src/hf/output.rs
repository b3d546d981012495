//! Whether a folder can be made, asked before it is.

use std::path::Path;

use terrace_base::fs;

use crate::Error;

/// What files take beyond the tensors' bytes, generously.
const HEADERS_BYTES: u64 = 16 << 20;

/// Refuses a folder that is there and holds something.
///
/// # Errors
///
/// It does, or it is no folder.
pub fn require_unoccupied(output: &Path) -> Result<(), Error> {
    let free = match std::fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !output.exists(),
    };
    if free { Ok(()) } else { Err(Error::Occupied { path: output.to_owned() }) }
}

/// Refuses a folder whose disk has no room for so many bytes of tensors, and what files take beside.
///
/// Where the file system does not say, writing will.
///
/// # Errors
///
/// It has not.
pub fn require_space(output: &Path, tensor_bytes: u64) -> Result<(), Error> {
    let parent = output.ancestors().skip(1).find(|folder| folder.is_dir());
    let parent = parent.filter(|folder| !folder.as_os_str().is_empty());
    let needed = tensor_bytes + HEADERS_BYTES;
    match fs::available_bytes(parent.unwrap_or_else(|| Path::new("."))) {
        Ok(available) if available < needed => {
            Err(Error::NoSpace { path: output.to_owned(), needed, available })
        }
        _ => Ok(()),
    }
}
