//! Documents that have text of evaluation tasks.

mod index;
mod words;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::{AsArray, RecordBatch};
use terrace_config::ContaminationAction;

pub use index::{NgramIndex, NgramRules};
pub use words::for_each_word;

use super::columns::{self, TEXT, column, origins};

/// What is looked for in documents, and what becomes of those that have it.
#[derive(Clone, Copy, Debug)]
pub struct Contaminants<'a> {
    /// The n-grams of items.
    pub index: &'a NgramIndex,
    /// What becomes of a document that has one.
    pub action: ContaminationAction,
}

/// What was found in some documents; the sum over batches does not depend on their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Documents with an n-gram of any item.
    pub documents: u64,
    /// Such documents by the number of the task; a document counts once for each.
    pub tasks: BTreeMap<u32, u64>,
    /// What was found of each item, by its number.
    pub items: BTreeMap<u32, FoundItem>,
}

/// What was found of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundItem {
    /// Documents with an n-gram of it.
    pub documents: u64,
    /// The most of its n-grams that one document has.
    pub ngrams: u32,
    /// File and row of that document; of several, the first.
    pub closest: (u32, u64),
}

impl Contaminants<'_> {
    /// Looks for items in documents; those that have text of one are left out if that was asked for.
    #[must_use]
    pub fn apply(&self, documents: RecordBatch) -> (RecordBatch, Found) {
        let texts = column(&documents, TEXT).as_string::<i64>();
        let (files, rows) = origins(&documents);
        let mut found = Found::default();
        let mut words = Vec::new();
        let mut keep = Vec::with_capacity(documents.num_rows());
        for (row, text) in texts.iter().flatten().enumerate() {
            let shared = self.index.search(text, &mut words);
            keep.push(shared.is_empty() || self.action == ContaminationAction::Flag);
            found.note(self.index, &shared, (files.value(row), rows.value(row)));
        }
        (columns::filter(documents, &keep), found)
    }
}

impl Found {
    /// Takes note of a document: how many n-grams of which items it has.
    fn note(&mut self, index: &NgramIndex, shared: &[(u32, u32)], place: (u32, u64)) {
        if shared.is_empty() {
            return;
        }
        self.documents += 1;
        let mut tasks: Vec<u32> = shared.iter().map(|(item, _)| index.task_of(*item)).collect();
        tasks.sort_unstable();
        tasks.dedup();
        for task in tasks {
            *self.tasks.entry(task).or_default() += 1;
        }
        for &(item, ngrams) in shared {
            self.add(item, FoundItem { documents: 1, ngrams, closest: place });
        }
    }

    /// Adds what was found elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.documents += other.documents;
        for (task, documents) in &other.tasks {
            *self.tasks.entry(*task).or_default() += documents;
        }
        for (item, found) in &other.items {
            self.add(*item, *found);
        }
    }

    fn add(&mut self, item: u32, more: FoundItem) {
        match self.items.entry(item) {
            Entry::Vacant(entry) => {
                entry.insert(more);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.documents += more.documents;
                let is_closer = (more.ngrams, std::cmp::Reverse(more.closest))
                    > (known.ngrams, std::cmp::Reverse(known.closest));
                if is_closer {
                    (known.ngrams, known.closest) = (more.ngrams, more.closest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, LargeStringArray, UInt32Array, UInt64Array};
    use proptest::prelude::*;

    use super::*;
    use crate::chain::columns::{documents_schema, with_origin};

    const RULES: NgramRules = NgramRules { ngram: 13, minimum_words: 8, maximum_items: 10 };

    fn index(items: &[&str]) -> NgramIndex {
        let passages: Vec<Vec<String>> =
            items.iter().map(|item| vec![(*item).to_owned()]).collect();
        NgramIndex::new(passages.iter().map(|item| (0, item.as_slice())), RULES)
    }

    fn batch(first_row: u64, texts: &[&str]) -> RecordBatch {
        let rows = texts.len();
        let origin = RecordBatch::try_from_iter([
            (columns::FILE, Arc::new(UInt32Array::from_value(0, rows)) as ArrayRef),
            (
                columns::ROW,
                Arc::new(UInt64Array::from_iter_values(first_row..first_row + rows as u64)),
            ),
        ])
        .unwrap();
        let texts: ArrayRef = Arc::new(LargeStringArray::from(texts.to_vec()));
        with_origin(&origin, documents_schema(), [texts])
    }

    const ITEM: &str =
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";

    #[test]
    fn documents_are_dropped_or_flagged_and_noted() {
        let index = index(&[ITEM, "nothing of this is anywhere at all in here", "too short"]);
        assert_eq!([0, 1, 2].map(|item| index.ngrams_of(item)), [2, 1, 0]);
        let partly = ITEM.replace("fourteen", "");
        let texts = ["clean", &partly, ITEM, ITEM];
        for (action, kept) in [(ContaminationAction::Drop, 1), (ContaminationAction::Flag, 4)] {
            let contaminants = Contaminants { index: &index, action };
            let (documents, found) = contaminants.apply(batch(0, &texts));
            assert_eq!(documents.num_rows(), kept);
            let item = FoundItem { documents: 3, ngrams: 2, closest: (0, 2) };
            assert_eq!(found.items, BTreeMap::from([(0, item)]));
            assert_eq!((found.documents, &found.tasks), (3, &BTreeMap::from([(0, 3)])));

            // In other batches, in another order.
            let mut sum = Found::default();
            for row in [3, 1, 0, 2] {
                sum.merge(&contaminants.apply(batch(row as u64, &texts[row..=row])).1);
            }
            assert_eq!(sum, found);
        }
    }

    /// Words of several scripts, none of them within another.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-z]{1,6}",
            1 => "[0-9]{1,3}",
            1 => "[éüßøğ]{1,4}",
            1 => "[σςλπ]{2,4}",
            1 => "[жщы]{2,4}",
            2 => "[学而时习之不亦乐乎]",
        ]
    }

    /// What may stand between two words.
    fn gap() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            " ", "\n", "  ", ", ", ". ", " — ", "-", "...", "\t(", ") ", "\"", "，", "。", "_",
            " * ", "</b>",
        ])
    }

    fn spelt(words: &[String], gaps: &[&str], is_loud: bool) -> String {
        let mut text = String::new();
        for (word, gap) in words.iter().zip(gaps) {
            text.push_str(&if is_loud { word.to_uppercase() } else { word.clone() });
            // A tag's name is a word.
            text.push_str(if *gap == "</b>" { "<>" } else { gap });
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn thirteen_words_of_an_item_are_found_wherever_and_however_they_stand(
            item in prop::collection::vec(word(), 13..40),
            gaps in prop::collection::vec(gap(), 40),
            other_gaps in prop::collection::vec(gap(), 40),
            begin in any::<prop::sample::Index>(),
            before in prop::collection::vec(word(), 0..20),
            after in prop::collection::vec(word(), 0..20),
            is_loud in any::<bool>(),
        ) {
            let index = index(&[&spelt(&item, &gaps, false)]);
            let begin = begin.index(item.len() - 12);
            let shared = spelt(&item[begin..begin + 13], &other_gaps, is_loud);
            let document = format!("{} {shared} {}", before.join(" "), after.join(" "));
            prop_assert_eq!(index.search(&document, &mut Vec::new()).len(), 1);
        }

        #[test]
        fn twelve_words_of_an_item_are_never_found(
            item in prop::collection::vec(word(), 13..40),
            gaps in prop::collection::vec(gap(), 40),
            pieces in prop::collection::vec((any::<prop::sample::Index>(), 1usize..13), 0..12),
        ) {
            let index = index(&[&spelt(&item, &gaps, false)]);
            let pieces: Vec<String> = pieces
                .into_iter()
                .map(|(begin, length)| {
                    let begin = begin.index(item.len());
                    item[begin..(begin + length).min(item.len())].join(" ")
                })
                .collect();
            // A word that no item has stands between the pieces.
            let document = pieces.join(" jjjjjjjj ");
            prop_assert!(index.search(&document, &mut Vec::new()).is_empty());
        }
    }
}
