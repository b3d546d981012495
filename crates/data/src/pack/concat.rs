use super::{PackedWindow, offset};

/// One stream of documents, cut every `sequence_length` tokens.
///
/// The last token of a window is the first of the next, so that it is a target in the one and a
/// position in the other. Only the last window is padded; nothing is lost.
#[derive(Debug)]
pub struct ConcatAndChunk {
    capacity: usize,
    tokens: Vec<u32>,
    starts: Vec<u32>,
    /// Tokens at the front that the window before holds too: 0 or 1.
    shared: usize,
    skipped: u64,
}

impl ConcatAndChunk {
    /// Starts an empty stream.
    #[must_use]
    pub fn new(sequence_length: usize) -> Self {
        assert!(sequence_length > 0, "a window has at least one target");
        let capacity = sequence_length + 1;
        Self {
            capacity,
            tokens: Vec::with_capacity(capacity),
            starts: Vec::new(),
            shared: 0,
            skipped: 0,
        }
    }

    pub(super) fn push<E>(
        &mut self,
        mut document: &[u32],
        emit: &mut impl FnMut(PackedWindow) -> Result<(), E>,
    ) -> Result<(), E> {
        if !document.is_empty() {
            self.starts.push(offset(self.tokens.len()));
        }
        while !document.is_empty() {
            let (taken, rest) =
                document.split_at(document.len().min(self.capacity - self.tokens.len()));
            self.tokens.extend_from_slice(taken);
            document = rest;
            if self.tokens.len() == self.capacity {
                self.cut(emit)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish<E>(
        mut self,
        emit: &mut impl FnMut(PackedWindow) -> Result<(), E>,
    ) -> Result<u64, E> {
        if self.tokens.len() > self.shared {
            self.cut(emit)?;
        }
        Ok(self.skipped)
    }

    fn cut<E>(&mut self, emit: &mut impl FnMut(PackedWindow) -> Result<(), E>) -> Result<(), E> {
        let last = *self.tokens.last().expect("a window is cut when it holds something");
        let mut next = Vec::with_capacity(self.capacity);
        next.push(last);
        let tokens = std::mem::replace(&mut self.tokens, next);
        let starts = std::mem::replace(&mut self.starts, vec![0]);
        self.shared = 1;
        match PackedWindow::close(tokens, starts, self.capacity) {
            Some(window) => emit(window),
            None => {
                self.skipped += 1;
                Ok(())
            }
        }
    }
}
