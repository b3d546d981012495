//! Lengths that an Arrow IPC file states, held against what the file has.
//!
//! The reader allocates what a message says it is long before it reads it. In a damaged file that is
//! any number, and an allocation that fails ends the process.

use std::io::{self, Read, Seek, SeekFrom};

use arrow::ipc::reader::read_footer_length;
use arrow::ipc::{Block, root_as_footer, root_as_message};

/// What stands before a message's length; older writers left it out.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// The footer's length and the magic, at the end of a file.
const TRAILER: u64 = 10;

/// Reads a stream and refuses a message that is longer than what is left of it.
pub(super) struct Framed<R> {
    inner: R,
    left: u64,
    expects: Expects,
    /// What has been read of a length or of a message's metadata.
    held: Vec<u8>,
}

/// What the next bytes are, and how many of them are still to come.
#[derive(Clone, Copy)]
enum Expects {
    /// The mark before a length, or the length itself.
    Mark,
    Length,
    Metadata(u64),
    Body(u64),
    /// Nothing that the reader would allocate for.
    Rest,
}

impl<R: Read> Framed<R> {
    /// A stream of `size` bytes.
    pub(super) fn new(inner: R, size: u64) -> Self {
        Self { inner, left: size, expects: Expects::Mark, held: Vec::new() }
    }

    fn wanted(&self) -> u64 {
        match self.expects {
            Expects::Mark | Expects::Length => 4 - self.held.len() as u64,
            Expects::Metadata(length) => length - self.held.len() as u64,
            Expects::Body(left) => left,
            Expects::Rest => u64::MAX,
        }
    }

    fn took(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if let Expects::Body(left) = &mut self.expects {
            *left -= bytes.len() as u64;
        } else if !matches!(self.expects, Expects::Rest) {
            self.held.extend_from_slice(bytes);
        }
        if self.wanted() == 0 {
            self.expects = self.following()?;
            self.held.clear();
        }
        Ok(())
    }

    /// What comes after what has been read whole.
    fn following(&self) -> io::Result<Expects> {
        match self.expects {
            Expects::Mark if self.held == CONTINUATION => Ok(Expects::Length),
            Expects::Mark | Expects::Length => {
                let length = i32::from_le_bytes([0, 1, 2, 3].map(|place| self.held[place]));
                // The end, or what the reader refuses itself.
                if length <= 0 {
                    return Ok(Expects::Rest);
                }
                self.within(i64::from(length)).map(Expects::Metadata)
            }
            Expects::Metadata(_) => match root_as_message(&self.held) {
                Err(_) => Ok(Expects::Rest),
                Ok(message) => match self.within(message.bodyLength())? {
                    0 => Ok(Expects::Mark),
                    length => Ok(Expects::Body(length)),
                },
            },
            Expects::Body(_) => Ok(Expects::Mark),
            Expects::Rest => Ok(Expects::Rest),
        }
    }

    fn within(&self, length: i64) -> io::Result<u64> {
        let fits = u64::try_from(length).ok().filter(|length| *length <= self.left);
        fits.ok_or_else(|| too_long(length, self.left))
    }
}

impl<R: Read> Read for Framed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.wanted()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.took(&buffer[..count])?;
        Ok(count)
    }
}

/// Refuses a file of `size` bytes whose footer names a message beyond it; whatever else is wrong with
/// a footer the reader says itself.
pub(super) fn check_footer(mut reader: impl Read + Seek, size: u64) -> io::Result<()> {
    let Some(end) = size.checked_sub(TRAILER) else { return Ok(()) };
    let mut trailer = [0; TRAILER as usize];
    reader.seek(SeekFrom::Start(end))?;
    reader.read_exact(&mut trailer)?;
    let Ok(length) = read_footer_length(trailer) else { return Ok(()) };
    let Some(start) = end.checked_sub(length as u64) else {
        return Err(too_long(length as i64, end));
    };
    let mut footer = vec![0; length];
    reader.seek(SeekFrom::Start(start))?;
    reader.read_exact(&mut footer)?;
    let Ok(footer) = root_as_footer(&footer) else { return Ok(()) };
    let batches = footer.recordBatches().into_iter().flatten();
    let dictionaries = footer.dictionaries().into_iter().flatten();
    batches.chain(dictionaries).try_for_each(|block| check_block(block, size))
}

fn check_block(block: &Block, size: u64) -> io::Result<()> {
    let metadata = i64::from(block.metaDataLength());
    let parts = [block.offset(), metadata, block.bodyLength()];
    let whole = parts.iter().all(|part| *part >= 0);
    let end = parts.into_iter().try_fold(0_i64, i64::checked_add);
    match end.and_then(|end| u64::try_from(end).ok()) {
        Some(end) if whole && end <= size => Ok(()),
        _ => Err(too_long(block.bodyLength(), size)),
    }
}

/// Not `UnexpectedEof`, which the reader takes for the end of a stream.
fn too_long(length: i64, left: u64) -> io::Error {
    let message = format!("a message of {length} bytes, where {left} are left");
    io::Error::new(io::ErrorKind::InvalidData, message)
}
