use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::shard::Shard;
use crate::{Error, MANIFEST_FILE, Manifest, Result, Window};

/// An edition opened for reading.
///
/// Its shards are mapped, so that a window costs no copy and an edition larger than memory works.
/// They must not be truncated while it is open: that ends the process with SIGBUS.
pub struct Edition {
    directory: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard>,
    /// Index of each shard's first window.
    first_windows: Vec<u64>,
}

impl Edition {
    /// Opens the edition in `directory`: checks its manifest and the size and columns of every
    /// shard, not their content, which [`verify`](crate::verify) does.
    ///
    /// # Errors
    ///
    /// There is no edition, or a file of it is missing, cut or not what the manifest says.
    pub fn open(directory: &Path) -> Result<Self> {
        let manifest = Manifest::read(directory)?;
        let sequence_length = sequence_length(directory, &manifest)?;
        let shards = manifest
            .shards
            .par_iter()
            .map(|entry| Shard::open(directory, entry, manifest.token_type, sequence_length))
            .collect::<Result<Vec<_>>>()?;
        let first_windows = manifest
            .shards
            .iter()
            .scan(0, |next, entry| {
                let first = *next;
                *next += entry.windows;
                Some(first)
            })
            .collect();
        Ok(Self { directory: directory.to_owned(), manifest, shards, first_windows })
    }

    /// Opens the held-out edition inside this one, if it has one.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_held_out(&self) -> Result<Option<Self>> {
        match Self::open(&held_out_directory(&self.directory)) {
            Err(Error::NoEdition { .. }) => Ok(None),
            result => result.map(Some),
        }
    }

    /// What the edition says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How many windows it has.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.manifest.windows
    }

    /// Targets per window.
    #[must_use]
    pub fn sequence_length(&self) -> usize {
        usize::try_from(self.manifest.sequence_length).expect("checked when the edition was opened")
    }

    /// The window at `index`, without copying; panics when there is none.
    #[must_use]
    pub fn window(&self, index: u64) -> Window<'_> {
        assert!(index < self.windows(), "window {index} of {}", self.windows());
        // Shards without windows share their first index with the next: the last one has it.
        let shard = self.first_windows.partition_point(|&first| first <= index) - 1;
        let offset = index - self.first_windows[shard];
        self.shards[shard].window(usize::try_from(offset).expect("a shard is mapped"))
    }
}

impl std::fmt::Debug for Edition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edition")
            .field("directory", &self.directory)
            .field("windows", &self.windows())
            .field("fingerprint", &self.manifest.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Where the held-out edition of the edition in `directory` lies.
#[must_use]
pub fn held_out_directory(directory: &Path) -> PathBuf {
    directory.join("held_out")
}

/// A window is offset by `i32` within its record batch, which bounds its length.
fn sequence_length(directory: &Path, manifest: &Manifest) -> Result<usize> {
    usize::try_from(manifest.sequence_length)
        .ok()
        .filter(|length| (1..1 << 24).contains(length))
        .ok_or_else(|| Error::Manifest {
            path: directory.join(MANIFEST_FILE),
            reason: format!(
                "its sequence_length is {}, expected 1 to {}",
                manifest.sequence_length,
                (1 << 24) - 1
            ),
        })
}

/// The editions of a run, in the order of its sources.
#[derive(Debug)]
pub struct Sources {
    editions: Vec<Edition>,
}

impl Sources {
    /// Opens one edition per source and checks that they can be mixed.
    ///
    /// # Errors
    ///
    /// An edition cannot be opened, or has another sequence length or tokenizer than the first.
    pub fn open<P: AsRef<Path> + Sync>(directories: &[P]) -> Result<Self> {
        let editions = directories
            .iter()
            .map(|directory| Edition::open(directory.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        if let Some((first, rest)) = editions.split_first() {
            for other in rest {
                agree(first, other)?;
            }
        }
        Ok(Self { editions })
    }

    /// How many sources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.editions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.editions.is_empty()
    }

    /// The edition of a source; panics when there is none.
    #[must_use]
    pub fn edition(&self, source: usize) -> &Edition {
        &self.editions[source]
    }

    /// All editions in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Edition> {
        self.editions.iter()
    }

    /// A window of a source; panics when there is none.
    #[must_use]
    pub fn window(&self, source: usize, index: u64) -> Window<'_> {
        self.editions[source].window(index)
    }
}

fn agree(first: &Edition, other: &Edition) -> Result<()> {
    let (a, b) = (first.manifest(), other.manifest());
    let difference = if a.sequence_length != b.sequence_length {
        format!("its sequence_length is {}, expected {}", b.sequence_length, a.sequence_length)
    } else if a.tokenizer != b.tokenizer {
        format!("its tokenizer is {}, expected {}", b.tokenizer.short(), a.tokenizer.short())
    } else {
        return Ok(());
    };
    Err(Error::Manifest {
        path: other.directory().join(MANIFEST_FILE),
        reason: format!("{difference} as in {}", first.directory().display()),
    })
}
