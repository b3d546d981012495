//! Visiting the documents of a bucket in order, in bounded memory.

use std::collections::HashSet;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt16Type, UInt32Type};
use terrace_base::SeedStream;
use terrace_data::TokenSlice;

use super::spill::{Bucket, Spill};
use crate::Result;
use crate::chain::columns::{TEXT_BYTES, TOKENS, column, hashes};
use crate::chain::{ContentHash, order, sort_key};

/// Most buckets that one is split into at once, as a power of two.
const SPLIT_BITS: u32 = 6;

/// A document in its place.
pub(super) struct Document<'a> {
    pub(super) hash: ContentHash,
    pub(super) text_bytes: u32,
    pub(super) tokens: TokenSlice<'a>,
}

/// Takes documents in order.
pub(super) type Visitor<'a> = dyn FnMut(&Document<'_>) -> Result<()> + 'a;

/// How buckets are put in order.
pub(super) struct Merge<'a> {
    /// What the order comes from.
    pub(super) shuffle: SeedStream,
    /// Whether of equal documents one is visited.
    pub(super) deduplicate: bool,
    /// A bucket that is larger is split by the next bits of the sort key, again and again.
    pub(super) limit: u64,
    /// Where it is split to.
    pub(super) directory: &'a Path,
}

impl Merge<'_> {
    /// Visits a bucket whose documents agree in the first `known_bits` bits of the sort key, and
    /// says how many it left out as duplicates.
    ///
    /// Memory is about twice `limit`. Documents with one and the same text cannot be split; when
    /// they are not deduplicated, a bucket of them is held whole.
    pub(super) fn visit(
        &self,
        bucket: Bucket,
        known_bits: u32,
        visitor: &mut Visitor<'_>,
    ) -> Result<u64> {
        if bucket.bytes() <= self.limit || known_bits == u64::BITS {
            return self.visit_in_memory(&bucket, visitor);
        }
        let parts = bucket.bytes().div_ceil(self.limit).next_power_of_two();
        let bits = (parts.ilog2() + 1).min(SPLIT_BITS).min(u64::BITS - known_bits);
        let (parts, mut duplicates) = self.split(&bucket, known_bits, bits)?;
        drop(bucket);
        for part in parts {
            duplicates += self.visit(part, known_bits + bits, visitor)?;
        }
        Ok(duplicates)
    }

    fn visit_in_memory(&self, bucket: &Bucket, visitor: &mut Visitor<'_>) -> Result<u64> {
        let batches = bucket.batches().collect::<Result<Vec<_>>>()?;
        let ordering = order(&batches, self.shuffle, self.deduplicate);
        let readers: Vec<Reader<'_>> = batches.iter().map(Reader::new).collect();
        for (batch, row) in ordering.places {
            visitor(&readers[batch as usize].document(row as usize))?;
        }
        Ok(ordering.duplicates)
    }

    fn split(&self, bucket: &Bucket, known_bits: u32, bits: u32) -> Result<(Vec<Bucket>, u64)> {
        let parts = Spill::create(self.directory, 1 << bits, self.limit / 4)?;
        // A page that a crawl met a million times would fall into one part whatever the bits.
        // Which copy goes on does not matter: they are the same.
        let mut seen: HashSet<ContentHash> = HashSet::new();
        let most_seen = usize::try_from(self.limit / 256).unwrap_or(usize::MAX);
        let mut duplicates = 0;
        for batch in bucket.batches() {
            parts.add(&batch?, |hash| {
                if self.deduplicate && seen.contains(hash) {
                    duplicates += 1;
                    return None;
                }
                if self.deduplicate && seen.len() < most_seen {
                    seen.insert(*hash);
                }
                Some(bits_of(sort_key(hash, self.shuffle), known_bits, bits))
            })?;
        }
        Ok((parts.finish()?, duplicates))
    }
}

/// The `bits` bits of a sort key that follow the first `known_bits`.
pub(super) fn bits_of(key: u64, known_bits: u32, bits: u32) -> usize {
    if bits == 0 {
        return 0;
    }
    usize::try_from((key << known_bits) >> (u64::BITS - bits)).expect("a few bits")
}

/// Random access to the documents of a batch.
struct Reader<'a> {
    hashes: Vec<ContentHash>,
    text_bytes: &'a [u32],
    offsets: &'a [i32],
    tokens: TokenSlice<'a>,
}

impl<'a> Reader<'a> {
    fn new(batch: &'a RecordBatch) -> Self {
        let lists = column(batch, TOKENS).as_list::<i32>();
        let values = lists.values();
        Self {
            hashes: hashes(batch).collect(),
            text_bytes: column(batch, TEXT_BYTES).as_primitive::<UInt32Type>().values(),
            offsets: lists.value_offsets(),
            tokens: match values.as_primitive_opt::<UInt16Type>() {
                Some(narrow) => TokenSlice::U16(narrow.values()),
                None => TokenSlice::U32(values.as_primitive::<UInt32Type>().values()),
            },
        }
    }

    fn document(&self, row: usize) -> Document<'a> {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        Document {
            hash: self.hashes[row],
            text_bytes: self.text_bytes[row],
            tokens: match self.tokens {
                TokenSlice::U16(all) => TokenSlice::U16(&all[range]),
                TokenSlice::U32(all) => TokenSlice::U32(&all[range]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, FixedSizeBinaryArray, UInt32Array, UInt64Array};
    use arrow::array::{ListArray, UInt16Array};
    use arrow::buffer::{Buffer, OffsetBuffer};
    use proptest::prelude::*;
    use terrace_base::Seed;
    use terrace_data::TokenType;

    use super::*;
    use crate::chain::columns::{token_item, tokenized_schema};

    /// One document per number: its hash is that of the number, its only token the number.
    fn batch(numbers: &[u16]) -> RecordBatch {
        let rows = numbers.len();
        let hashes: Vec<u8> =
            numbers.iter().flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows));
        let tokens = Arc::new(UInt16Array::from(numbers.to_vec()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_value(0, rows)),
            Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
            Arc::new(FixedSizeBinaryArray::new(32, Buffer::from(hashes), None)),
            Arc::new(UInt32Array::from_value(1, rows)),
            Arc::new(ListArray::new(token_item(TokenType::U16), offsets, tokens, None)),
        ];
        RecordBatch::try_new(tokenized_schema(TokenType::U16), columns).unwrap()
    }

    fn visit(numbers: &[u16], deduplicate: bool, limit: u64) -> (Vec<u32>, u64) {
        let directory = std::env::temp_dir();
        let spill = Spill::create(&directory, 1, 1 << 12).unwrap();
        for numbers in numbers.chunks(10) {
            spill.add(&batch(numbers), |_| Some(0)).unwrap();
        }
        let bucket = spill.finish().unwrap().pop().unwrap();
        let shuffle = Seed(1).stream("test");
        let merge = Merge { shuffle, deduplicate, limit, directory: &directory };
        let mut visited = Vec::new();
        let duplicates = merge
            .visit(bucket, 0, &mut |document| {
                visited.push(document.tokens.get(0));
                Ok(())
            })
            .unwrap();
        (visited, duplicates)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn splitting_changes_neither_order_nor_duplicates(
            numbers in prop::collection::vec(0u16..300, 1..600),
            deduplicate in any::<bool>(),
        ) {
            let whole = visit(&numbers, deduplicate, u64::MAX);
            prop_assert_eq!(whole.0.len() as u64 + whole.1, numbers.len() as u64);
            // A block is larger than a kilobyte: everything is split to the last document.
            for limit in [1 << 10, 10 << 10] {
                prop_assert_eq!(&visit(&numbers, deduplicate, limit), &whole);
            }
        }
    }

    #[test]
    fn equal_documents_end_the_splitting() {
        let numbers = [7; 500];
        assert_eq!(visit(&numbers, true, 1 << 10), (vec![7], 499));
        assert_eq!(visit(&numbers, false, 1 << 10), (vec![7; 500], 0));
    }

    #[test]
    fn bits_are_taken_from_the_top() {
        let key = 0xabcd_0000_0000_0001;
        assert_eq!(bits_of(key, 0, 0), 0);
        assert_eq!(bits_of(key, 0, 4), 0xa);
        assert_eq!(bits_of(key, 4, 8), 0xbc);
        assert_eq!(bits_of(key, 60, 4), 1);
    }
}
