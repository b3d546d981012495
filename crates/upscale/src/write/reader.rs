//! The thread that reads: while it reads and hashes a piece, the last one is written.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use terrace_base::StreamHasher;
use terrace_model::hf::Folder;

use super::scale::scale;
use super::{Error, Planned, TensorLineage};

/// The size of a piece: it stays in a core's cache, and is as large as what the writer passes on
/// without collecting it first.
const PIECE_BYTES: usize = 1 << 20;
/// How many pieces there are in all.
const PIECES: usize = 16;

/// What a [`Reader`] has read, in order.
pub(super) struct Pieces {
    full: Receiver<Result<Vec<u8>, Error>>,
    empty: Sender<Vec<u8>>,
}

impl Pieces {
    /// Begins to read all tensors in their order.
    ///
    /// Dropping the pieces ends the thread, which gives the lineage of what it has read.
    pub(super) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        folder: &'env Folder,
        tensors: &'env [Planned],
    ) -> (Self, ScopedJoinHandle<'scope, Vec<TensorLineage>>) {
        let (full_sender, full) = sync_channel(PIECES);
        let (empty, empty_receiver) = channel();
        for _ in 0..PIECES {
            empty.send(Vec::with_capacity(PIECE_BYTES)).expect("the other end is here");
        }
        let reader = Reader { folder, full: full_sender, empty: empty_receiver };
        let thread = scope.spawn(move || reader.run(tensors));
        (Self { full, empty }, thread)
    }

    /// Hands the next piece to `write`.
    ///
    /// # Errors
    ///
    /// It could not be read, or not be written.
    pub(super) fn next(
        &self,
        write: impl FnOnce(&[u8]) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let piece = self.full.recv().expect("the reader ends with the last piece or an error")?;
        write(&piece)?;
        let count = piece.len();
        // The reader may have ended: it does not need the piece again.
        let _ = self.empty.send(piece);
        Ok(count)
    }
}

struct Reader<'a> {
    folder: &'a Folder,
    full: SyncSender<Result<Vec<u8>, Error>>,
    empty: Receiver<Vec<u8>>,
}

impl Reader<'_> {
    fn run(self, tensors: &[Planned]) -> Vec<TensorLineage> {
        let mut lineages = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            match self.read(tensor) {
                Ok(Some(lineage)) => lineages.push(lineage),
                // Nobody listens any more: the writer has failed.
                Ok(None) => break,
                Err(error) => {
                    let _ = self.full.send(Err(error));
                    break;
                }
            }
        }
        lineages
    }

    fn read(&self, tensor: &Planned) -> Result<Option<TensorLineage>, Error> {
        let (dtype, bytes) = self.folder.tensor(&tensor.source);
        let mut read = StreamHasher::new();
        let mut changed = tensor.factor.map(|_| StreamHasher::new());
        let mut offset = 0;
        while offset < bytes {
            let Ok(mut piece) = self.empty.recv() else { return Ok(None) };
            piece.resize((bytes - offset).min(PIECE_BYTES as u64) as usize, 0);
            self.folder.read(&tensor.source, offset, &mut piece)?;
            read.update(&piece);
            if let (Some(factor), Some(changed)) = (tensor.factor, &mut changed) {
                scale(&mut piece, dtype, factor);
                changed.update(&piece);
            }
            offset += piece.len() as u64;
            if self.full.send(Ok(piece)).is_err() {
                return Ok(None);
            }
        }
        let source_hash = read.finish();
        let hash = changed.map_or(source_hash, |changed| changed.finish());
        let (name, source) = (tensor.spec.name.clone(), tensor.source.clone());
        Ok(Some(TensorLineage::new(name, source, source_hash, hash)))
    }
}
