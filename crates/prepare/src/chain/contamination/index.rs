//! The n-grams of items, to be found in documents.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::words::for_each_word;

/// Which n-grams of items are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NgramRules {
    /// Words of an n-gram.
    pub ngram: usize,
    /// A passage of fewer words is looked for as a whole if it has so many.
    pub minimum_words: usize,
    /// An n-gram of more items is not looked for.
    pub maximum_items: usize,
}

/// A word of a document that no item has.
const UNKNOWN: u32 = u32::MAX;
/// What the positions of words in a hash are told apart by: odd, otherwise of no meaning.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bits of the sieve for each n-gram.
const SIEVE_BITS: usize = 16;

/// The n-grams of the items of tasks.
///
/// Words are numbered, and documents are read as numbers. A hash over the first words of an n-gram, rolled from
/// word to word, says where one may begin; then its words are compared, so that equal hashes of
/// different words cost time and never a document.
///
/// # Memory
///
/// About 60 bytes for each n-gram of the items, and the words that they have; twice that while it is
/// made. It does not grow with the documents.
#[derive(Clone, Debug)]
pub struct NgramIndex {
    dictionary: HashMap<Box<str>, u32, FixedState>,
    /// Words that are hashed: those of the shortest n-gram.
    head: usize,
    /// `BASE` to the power of one less.
    oldest: u64,
    sieve: Sieve,
    /// The n-grams that begin with words of a hash, as a range of `ngrams`.
    heads: HashMap<u64, (u32, u32)>,
    ngrams: Vec<Ngram>,
    /// The items of each n-gram, one after the other.
    owners: Vec<u32>,
    /// The words of all passages, one after the other.
    words: Vec<u32>,
    tasks: Vec<u32>,
    ngrams_of: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Ngram {
    begin: u32,
    length: u32,
    /// Where its items begin; they end where the next one's begin.
    owners: u32,
}

/// An n-gram of one item, before equal ones are put together.
#[derive(Clone, Copy)]
struct Occurrence {
    hash: u64,
    begin: u32,
    length: u32,
    item: u32,
}

impl NgramIndex {
    /// Indexes items, each the number of its task and its passages; items are numbered as they come.
    pub fn new<'a>(items: impl Iterator<Item = (u32, &'a [String])>, rules: NgramRules) -> Self {
        let mut passages = Passages::default();
        for (task, texts) in items {
            passages.add(task, texts, rules);
        }
        let head = passages.found.iter().map(|found| found.length).min().unwrap_or(1) as usize;
        let mut index = Self {
            dictionary: passages.dictionary,
            head,
            oldest: (1..head).fold(1, |power: u64, _| power.wrapping_mul(BASE)),
            sieve: Sieve::new(0),
            heads: HashMap::new(),
            ngrams: Vec::new(),
            owners: Vec::new(),
            ngrams_of: vec![0; passages.tasks.len()],
            words: passages.words,
            tasks: passages.tasks,
        };
        index.fill(passages.found, rules.maximum_items);
        index
    }

    /// Puts equal n-grams together, and those that begin alike beside each other.
    fn fill(&mut self, mut found: Vec<Occurrence>, maximum_items: usize) {
        for one in &mut found {
            one.hash = hash(&self.words[one.begin as usize..][..self.head]);
        }
        let words = |one: &Occurrence| &self.words[one.begin as usize..][..one.length as usize];
        found.sort_unstable_by(|a, b| {
            (a.hash, words(a), a.item, a.begin).cmp(&(b.hash, words(b), b.item, b.begin))
        });
        for equal in found.chunk_by(|a, b| words(a) == words(b)) {
            let mut owners: Vec<u32> = equal.iter().map(|one| one.item).collect();
            owners.dedup();
            if owners.len() > maximum_items {
                continue;
            }
            let Occurrence { hash, begin, length, .. } = equal[0];
            let number = small(self.ngrams.len());
            self.heads.entry(hash).or_insert((number, number)).1 = number + 1;
            self.ngrams.push(Ngram { begin, length, owners: small(self.owners.len()) });
            for owner in &owners {
                self.ngrams_of[*owner as usize] += 1;
            }
            self.owners.extend(owners);
        }
        self.sieve = Sieve::new(self.heads.len());
        self.heads.keys().for_each(|hash| self.sieve.add(*hash));
    }

    /// The task of an item.
    #[must_use]
    pub fn task_of(&self, item: u32) -> u32 {
        self.tasks[item as usize]
    }

    /// How many different n-grams of an item are looked for.
    #[must_use]
    pub fn ngrams_of(&self, item: u32) -> u32 {
        self.ngrams_of[item as usize]
    }

    /// The items that share n-grams with a text, ascending, and how many different ones; `words` is only a
    /// place to work in.
    #[must_use]
    pub fn search(&self, text: &str, words: &mut Vec<u32>) -> Vec<(u32, u32)> {
        words.clear();
        for_each_word(text, |word| {
            words.push(self.dictionary.get(word).copied().unwrap_or(UNKNOWN));
        });
        let mut found = self.found(words);
        found.sort_unstable();
        found.dedup();
        let mut owners: Vec<u32> =
            found.into_iter().flat_map(|ngram| self.owners_of(ngram)).collect();
        owners.sort_unstable();
        owners.chunk_by(|a, b| a == b).map(|same| (same[0], small(same.len()))).collect()
    }

    /// The n-grams in a text, as often as they are in it.
    fn found(&self, words: &[u32]) -> Vec<u32> {
        let mut found = Vec::new();
        // Words in a row that items have, up to those that are hashed, and their hash.
        let (mut run, mut hash) = (0, 0_u64);
        for (end, &word) in words.iter().enumerate() {
            if word == UNKNOWN {
                (run, hash) = (0, 0);
                continue;
            }
            if run == self.head {
                hash = hash.wrapping_sub(mix(words[end - run]).wrapping_mul(self.oldest));
            } else {
                run += 1;
            }
            hash = hash.wrapping_mul(BASE).wrapping_add(mix(word));
            if run < self.head || !self.sieve.may_have(hash) {
                continue;
            }
            let Some(&(first, last)) = self.heads.get(&hash) else { continue };
            let here = &words[end + 1 - run..];
            let stands_here = |ngram: &u32| here.starts_with(self.words_of(*ngram));
            found.extend((first..last).filter(stands_here));
        }
        found
    }

    fn words_of(&self, ngram: u32) -> &[u32] {
        let Ngram { begin, length, .. } = self.ngrams[ngram as usize];
        &self.words[begin as usize..][..length as usize]
    }

    fn owners_of(&self, ngram: u32) -> impl Iterator<Item = u32> + '_ {
        let end = self.ngrams.get(ngram as usize + 1).map(|next| next.owners as usize);
        let begin = self.ngrams[ngram as usize].owners as usize;
        self.owners[begin..end.unwrap_or(self.owners.len())].iter().copied()
    }
}

/// Passages of items, as numbers of words.
#[derive(Default)]
struct Passages {
    dictionary: HashMap<Box<str>, u32, FixedState>,
    words: Vec<u32>,
    tasks: Vec<u32>,
    found: Vec<Occurrence>,
}

impl Passages {
    fn add(&mut self, task: u32, texts: &[String], rules: NgramRules) {
        let item = small(self.tasks.len());
        self.tasks.push(task);
        for text in texts {
            let begin = self.words.len();
            for_each_word(text, |word| {
                let next = small(self.dictionary.len());
                let number = match self.dictionary.get(word) {
                    Some(number) => *number,
                    None => *self.dictionary.entry(word.into()).or_insert(next),
                };
                self.words.push(number);
            });
            let count = self.words.len() - begin;
            let length =
                if count >= rules.minimum_words { count.min(rules.ngram) } else { rules.ngram };
            // None where the passage is too short.
            for first in 0..(count + 1).saturating_sub(length) {
                let begin = small(begin + first);
                self.found.push(Occurrence { hash: 0, begin, length: small(length), item });
            }
        }
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).expect("the items of tasks have fewer than four thousand million words")
}

/// What rolling along a text gives behind the last of these words.
fn hash(words: &[u32]) -> u64 {
    words.iter().fold(0, |hash: u64, word| hash.wrapping_mul(BASE).wrapping_add(mix(*word)))
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(word: u32) -> u64 {
    let mut z = u64::from(word).wrapping_add(BASE);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A bit for each of some hashes: most hashes of documents are sorted out by it, in a core's cache.
#[derive(Clone, Debug)]
struct Sieve {
    bits: Vec<u64>,
    shift: u32,
}

impl Sieve {
    fn new(hashes: usize) -> Self {
        let bits = (hashes * SIEVE_BITS).next_power_of_two().max(64);
        Self { bits: vec![0; bits / 64], shift: 64 - bits.ilog2() }
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        let bit = hash >> self.shift;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn add(&mut self, hash: u64) {
        let (word, bit) = self.place(hash);
        self.bits[word] |= bit;
    }

    fn may_have(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.bits[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(items: &[&[&str]], rules: NgramRules) -> NgramIndex {
        let items: Vec<Vec<String>> =
            items.iter().map(|item| item.iter().map(|text| (*text).to_owned()).collect()).collect();
        NgramIndex::new(items.iter().map(|item| (7, item.as_slice())), rules)
    }

    fn search(index: &NgramIndex, text: &str) -> Vec<(u32, u32)> {
        index.search(text, &mut Vec::new())
    }

    #[test]
    fn short_passages_are_found_whole_and_shorter_ones_never() {
        let rules = NgramRules { ngram: 5, minimum_words: 3, maximum_items: 1 };
        let index = index(&[&["a b c d e f g", "p q r s", "x y"], &["a b c", "r s"]], rules);
        assert_eq!([0, 1].map(|item| index.ngrams_of(item)), [4, 1]);
        assert_eq!(index.task_of(1), 7);
        assert_eq!(search(&index, "b c d e f"), [(0, 1)]);
        assert_eq!(search(&index, "a b c d e f g, g a b c d e"), [(0, 3), (1, 1)]);
        assert_eq!(search(&index, "o p q r s t"), [(0, 1)]);
        // A passage ends where it ends, and what is not of items is in the way.
        assert!(search(&index, "e f g p q r x y r s b c d e z f").is_empty());
        assert!(search(&index, "").is_empty());
    }

    #[test]
    fn what_many_items_share_is_not_looked_for() {
        let rules = NgramRules { ngram: 3, minimum_words: 3, maximum_items: 2 };
        let index = index(&[&["u v w a", "u v w"], &["u v w b"], &["u v w"], &["v w b"]], rules);
        assert_eq!([0, 1, 2, 3].map(|item| index.ngrams_of(item)), [1, 1, 0, 1]);
        assert!(search(&index, "u v w").is_empty());
        assert_eq!(search(&index, "u v w b"), [(1, 1), (3, 1)]);
    }

    #[test]
    fn nothing_finds_nothing() {
        let rules = NgramRules { ngram: 3, minimum_words: 3, maximum_items: 2 };
        assert!(search(&index(&[], rules), "u v w").is_empty());
        assert!(search(&index(&[&["a b"], &[]], rules), "a b a b a b").is_empty());
    }

    #[test]
    fn rolled_and_whole_hashes_agree() {
        let words = [3_u32, 1, 4, 1, 5, 9, 2, 6];
        let power = BASE.wrapping_mul(BASE);
        let mut rolled = hash(&words[..3]);
        for end in 3..words.len() {
            rolled = rolled.wrapping_sub(mix(words[end - 3]).wrapping_mul(power));
            rolled = rolled.wrapping_mul(BASE).wrapping_add(mix(words[end]));
            assert_eq!(rolled, hash(&words[end - 2..=end]));
        }
    }
}
