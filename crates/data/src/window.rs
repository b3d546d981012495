/// Token ids as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSlice<'a> {
    /// Ids of a vocabulary of at most 65,536.
    U16(&'a [u16]),
    /// Ids of a larger vocabulary.
    U32(&'a [u32]),
}

impl TokenSlice<'_> {
    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U16(tokens) => tokens.len(),
            Self::U32(tokens) => tokens.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id at `index`; panics when there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> u32 {
        match self {
            Self::U16(tokens) => u32::from(tokens[index]),
            Self::U32(tokens) => tokens[index],
        }
    }

    /// All ids in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All ids in order, widened.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::U16(tokens) => tokens.iter().map(|&token| u32::from(token)).collect(),
            Self::U32(tokens) => tokens.to_vec(),
        }
    }
}

/// One window of an edition, borrowed from the mapped shard.
///
/// # Shapes
///
/// `tokens` holds `sequence_length + 1` ids: position `t` predicts `t + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// The ids, padding included.
    pub tokens: TokenSlice<'a>,
    /// Offsets at which a document's piece begins, ascending; the first is always 0, also when
    /// the window begins in the middle of a document.
    pub document_starts: &'a [u32],
    /// How many tokens are real; what follows is padding.
    pub length: u32,
    /// How many positions have a target: the next token is real and of the same document.
    pub target_tokens: u32,
    /// Bytes of text that the targets stand for.
    pub target_bytes: u32,
}
