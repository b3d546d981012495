//! How scores moved from one model to another, with what the difference may be off by.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::{Detail, ItemRecord};
use crate::report::is_share;
use crate::statistics::{Flips, flips, mean, ratio, standard_error};

/// How the score of a task moved, on the items that both models were asked in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// These items.
    pub items: usize,
    /// The score after less the score before, in the units of the task's metric.
    pub difference: f64,
    /// Its standard error, item by item: what both models find hard is not in it.
    pub standard_error: Option<f64>,
    /// Items gained and lost, where each is right or wrong.
    pub flips: Option<Flips>,
}

/// The records of a task's items, before and after.
type Pairs<'a> = Vec<(&'a ItemRecord, &'a ItemRecord)>;

/// How each task moved that both models were asked; perplexities, which no items add up to, are left out.
///
/// The last record of an item counts.
#[must_use]
pub fn changes(before: &[ItemRecord], after: &[ItemRecord]) -> BTreeMap<String, Change> {
    let place = |record| {
        let record: &ItemRecord = record;
        ((record.task.as_str(), record.subset.as_str(), record.index), record)
    };
    let later: BTreeMap<_, &ItemRecord> = after.iter().map(place).collect();
    let earlier: BTreeMap<_, &ItemRecord> = before.iter().map(place).collect();
    let mut tasks: BTreeMap<&str, Pairs<'_>> = BTreeMap::new();
    for (place, record) in earlier {
        if let Some(other) = later.get(&place).filter(|other| other.item == record.item) {
            tasks.entry(place.0).or_default().push((record, other));
        }
    }
    let moved = |(task, pairs): (&str, Pairs<'_>)| Some((task.to_owned(), change(&pairs)?));
    tasks.into_iter().filter_map(moved).collect()
}

fn change(pairs: &[(&ItemRecord, &ItemRecord)]) -> Option<Change> {
    let metric = &pairs.first()?.0.metric;
    let items = pairs.len();
    if metric == "bits_per_byte" {
        let texts: Option<Vec<(f64, f64)>> = pairs.iter().map(|pair| text(*pair)).collect();
        let (bits, bytes): (Vec<f64>, Vec<f64>) = texts?.into_iter().unzip();
        let (difference, standard_error) = ratio(&bits, &bytes)?;
        return Some(Change { items, difference, standard_error, flips: None });
    }
    if !is_share(metric) {
        return None;
    }
    let scores = |of: &ItemRecord| of.metrics.get(metric).copied();
    let before: Option<Vec<f64>> = pairs.iter().map(|(before, _)| scores(before)).collect();
    let after: Option<Vec<f64>> = pairs.iter().map(|(_, after)| scores(after)).collect();
    let (before, after) = (before?, after?);
    let differences: Vec<f64> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
    Some(Change {
        items,
        difference: mean(&differences),
        standard_error: standard_error(&differences),
        flips: flips(&before, &after),
    })
}

/// The bits that a text costs more than before, and its bytes.
fn text((before, after): (&ItemRecord, &ItemRecord)) -> Option<(f64, f64)> {
    match (&before.detail, &after.detail) {
        (
            Detail::Perplexity { nats: before, bytes, .. },
            Detail::Perplexity { nats: after, .. },
        ) => Some(((after - before) / std::f64::consts::LN_2, *bytes as f64)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use terrace_base::Fingerprint;
    use terrace_config::TaskGroup;

    use super::*;

    fn record(task: &str, index: usize, metric: &str, score: f64, detail: Detail) -> ItemRecord {
        ItemRecord {
            task: task.to_owned(),
            group: TaskGroup::None,
            subset: String::new(),
            index,
            metric: metric.to_owned(),
            metrics: BTreeMap::from([(metric.to_owned(), score)]),
            is_cut: false,
            detail,
            item: Fingerprint::of_bytes(&index.to_le_bytes()),
            model: "m".to_owned(),
        }
    }

    fn right(index: usize, is_right: bool) -> ItemRecord {
        let detail =
            Detail::Generation { texts: Vec::new(), taken: BTreeMap::new(), target: String::new() };
        record("sums", index, "exact_match", f64::from(u8::from(is_right)), detail)
    }

    fn read(index: usize, nats: f64, bytes: usize) -> ItemRecord {
        let detail = Detail::Perplexity { nats, tokens: 1, bytes, words: 1 };
        record("texts", index, "bits_per_byte", 0.0, detail)
    }

    #[test]
    fn shares_move_item_by_item() {
        let before: Vec<ItemRecord> =
            [false, true, true, false].iter().enumerate().map(|(i, r)| right(i, *r)).collect();
        let mut after: Vec<ItemRecord> =
            [true, true, false, true].iter().enumerate().map(|(i, r)| right(i, *r)).collect();
        let moved = changes(&before, &after)["sums"];
        assert_eq!((moved.items, moved.difference), (4, 0.25));
        assert_eq!(moved.flips, Some(Flips { gained: 2, lost: 1 }));
        assert_eq!(moved.standard_error, standard_error(&[1.0, 0.0, -1.0, 1.0]));
        // What was asked in another way is another item.
        after[0].item = Fingerprint::of_bytes(b"other");
        assert_eq!(changes(&before, &after)["sums"].items, 3);
        assert!(changes(&before, &[]).is_empty());
    }

    #[test]
    fn texts_move_by_their_bytes() {
        let ln2 = std::f64::consts::LN_2;
        let before = [read(0, 10.0 * ln2, 10), read(1, 60.0 * ln2, 30)];
        let after = [read(0, 9.0 * ln2, 10), read(1, 57.0 * ln2, 30)];
        let moved = changes(&before, &after)["texts"];
        assert!((moved.difference + 0.1).abs() < 1e-12, "{moved:?}");
        assert!(moved.standard_error.unwrap() < 1e-12 && moved.flips.is_none());
    }
}
