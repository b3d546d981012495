//! The planned order of a whole run.

use serde::{Deserialize, Serialize};
use terrace_base::{Fingerprint, FingerprintHasher, Seed, SeedStream, SequenceIndex};

use super::cursor::{EnteredSegment, MixtureCursor};
use super::error::MixtureError;
use super::feistel::Feistel;
use super::journal::Journal;
use super::segment::{Segment, SegmentRule};

/// The rule in this file, its ties and its arithmetic; a new order of draws needs a new number.
pub const ALGORITHM: u16 = 1;

/// An immutable edition of a source: a set of windows that never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEdition {
    /// The source's name, for people.
    pub name: String,
    /// The hash of the edition's manifest, which is its identity.
    pub fingerprint: Fingerprint,
    /// Windows that it holds.
    pub windows: u64,
    /// Windows that a run may draw from it at most, repeats counted: `max_epochs · windows`.
    pub max_windows: Option<u64>,
}

/// One sequence of a run: which window of which source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// Its place in the run.
    pub index: SequenceIndex,
    /// Its segment, counted from zero.
    pub segment: usize,
    /// Its source: a place in the list that the schedule was made from.
    pub source: usize,
    /// The window within the source's edition.
    pub window: u64,
    /// How often the source has been read through before.
    pub epoch: u64,
    /// How many windows the run has drawn from the source before.
    pub cursor: u64,
}

/// The planned order of a whole run: which window of which source is its i-th sequence.
///
/// Knows nothing of batches, micro-steps or ranks: a step takes `[i, i + G)` whatever `G` is.
///
/// # Determinism
///
/// A pure function of the seed, the editions and the segments up to the draw; integers only. The
/// order in which sources are listed does not matter: the canonical one is by fingerprint.
#[derive(Clone, Debug)]
pub struct MixtureSchedule {
    /// In canonical order, as everything below.
    pub(super) sources: Vec<SourceEdition>,
    pub(super) rules: Vec<SegmentRule>,
    /// The given place of each source.
    order: Vec<usize>,
    streams: Vec<SeedStream>,
    /// For each segment, what its order and that of all before it depends on.
    pub(super) hashes: Vec<Fingerprint>,
    pub(super) segments: Vec<Segment>,
}

impl MixtureSchedule {
    /// Plans a run.
    ///
    /// # Errors
    ///
    /// The plan is incomplete, contradicts itself, exceeds a source's cap, or its numbers are too
    /// large for exact arithmetic.
    pub fn new(
        seed: Seed,
        sources: Vec<SourceEdition>,
        segments: Vec<Segment>,
    ) -> Result<Self, MixtureError> {
        let order = canonical_order(&sources)?;
        if segments.is_empty() {
            return Err(MixtureError::NoSegments);
        }
        let rules = segments.iter().enumerate();
        let rules = rules.map(|(place, segment)| SegmentRule::new(segment, place, &order));
        let rules: Vec<SegmentRule> = rules.collect::<Result<_, _>>()?;
        let sources: Vec<SourceEdition> = order.iter().map(|s| sources[*s].clone()).collect();
        let drawn = |s: &usize| rules.iter().any(|rule| rule.active.contains(s));
        if let Some(empty) = (0..sources.len()).filter(drawn).find(|s| sources[*s].windows == 0) {
            return Err(MixtureError::EmptySource { source_name: sources[empty].name.clone() });
        }
        let hashes = chain(seed, &rules, &sources);
        let stream = |edition: &SourceEdition| {
            seed.stream(&format!("window order of {}", edition.fingerprint))
        };
        let streams = sources.iter().map(stream).collect();
        let schedule = Self { sources, rules, order, streams, hashes, segments };
        schedule.check_caps()?;
        Ok(schedule)
    }

    /// Sequences of the whole run.
    #[must_use]
    pub fn sequences(&self) -> u64 {
        self.rules.iter().map(|rule| rule.sequences).sum()
    }

    /// The segments as they were given.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Everything that the order up to and within a segment depends on.
    #[must_use]
    pub fn segment_hash(&self, segment: usize) -> Fingerprint {
        self.hashes[segment]
    }

    /// The most windows that a segment draws from a source, which is at most one above its quota.
    #[must_use]
    pub fn planned_windows(&self, segment: usize, source: usize) -> u64 {
        let rule = &self.rules[segment];
        let place = self.order.iter().position(|given| *given == source);
        let place = place.expect("the source is one of the schedule's");
        rule.quota(place).map_or(0, |quota| quota.ceiling(rule.sequences))
    }

    /// The cursor before the first draw.
    #[must_use]
    pub fn cursor_at_start(&self) -> MixtureCursor {
        let zeros = vec![0; self.sources.len()];
        let first =
            EnteredSegment { hash: self.hashes[0], first_index: 0, base_counts: zeros.clone() };
        MixtureCursor {
            algorithm: ALGORITHM,
            index: 0,
            editions: self.sources.iter().map(|edition| edition.fingerprint).collect(),
            counts: zeros,
            entered: vec![first],
        }
    }

    /// Sequences left in the cursor's segment; zero until [`next`](Self::next) enters another.
    #[must_use]
    pub fn remaining_in_segment(&self, cursor: &MixtureCursor) -> u64 {
        self.rules[cursor.segment()].sequences - cursor.drawn_in_segment()
    }

    /// The segment of the next sequence that the journal does not pass over, and how many such
    /// sequences it has left; the last segment and zero at the end of the run.
    #[must_use]
    pub fn upcoming(&self, cursor: &MixtureCursor, journal: &Journal) -> (usize, u64) {
        let mut at = cursor.clone();
        loop {
            if self.remaining_in_segment(&at) == 0 && !self.enter_next_segment(&mut at) {
                return (at.segment(), 0);
            }
            let end = at.index + self.remaining_in_segment(&at);
            let left = end - at.index - journal.skipped_between(at.index, end);
            if left > 0 {
                return (at.segment(), left);
            }
            while at.index < end {
                self.next(&mut at).expect("the segment has sequences left");
            }
        }
    }

    /// Draws the next sequence; none at the end of the run.
    ///
    /// Enters the next segment where the cursor's is used up. A step that is not to cross a
    /// segment's edge takes at most [`remaining_in_segment`](Self::remaining_in_segment).
    pub fn next(&self, cursor: &mut MixtureCursor) -> Option<Draw> {
        if self.remaining_in_segment(cursor) == 0 && !self.enter_next_segment(cursor) {
            return None;
        }
        let segment = cursor.segment();
        let base = &cursor.current().base_counts;
        let drawn = |source: usize| cursor.counts[source] - base[source];
        let source = self.rules[segment].pick(drawn, cursor.drawn_in_segment());
        let position = cursor.counts[source];
        let (epoch, window) = self.window(source, position);
        let index = SequenceIndex(cursor.index);
        cursor.counts[source] += 1;
        cursor.index += 1;
        Some(Draw { index, segment, source: self.order[source], window, epoch, cursor: position })
    }

    /// Moves a cursor whose segment is used up into the next; false if there is none.
    pub fn enter_next_segment(&self, cursor: &mut MixtureCursor) -> bool {
        assert_eq!(self.remaining_in_segment(cursor), 0, "the segment is not used up");
        let Some(hash) = self.hashes.get(cursor.entered.len()) else {
            return false;
        };
        cursor.entered.push(EnteredSegment {
            hash: *hash,
            first_index: cursor.index,
            base_counts: cursor.counts.clone(),
        });
        true
    }

    /// Draws the next sequence that the journal does not pass over.
    pub fn next_trained(&self, cursor: &mut MixtureCursor, journal: &Journal) -> Option<Draw> {
        while let Some(skip) = journal.covering(cursor.index) {
            while cursor.index < skip.end {
                self.next(cursor)?;
            }
        }
        self.next(cursor)
    }

    /// Passes over `sequences` sequences, entering them in the journal; stops at the run's end.
    pub fn skip(&self, cursor: &mut MixtureCursor, journal: &mut Journal, sequences: u64) {
        let end = cursor.index.saturating_add(sequences);
        while cursor.index < end {
            if self.remaining_in_segment(cursor) == 0 && !self.enter_next_segment(cursor) {
                return;
            }
            let before = cursor.clone();
            let stop = end.min(cursor.index + self.remaining_in_segment(cursor));
            while cursor.index < stop {
                self.next(cursor).expect("the segment has sequences left");
            }
            journal.record(&before, cursor);
        }
    }

    /// Passes over all sequences before `end`, entering in the journal what is not there yet; stops
    /// at the run's end.
    pub fn skip_to(&self, cursor: &mut MixtureCursor, journal: &mut Journal, end: u64) {
        while cursor.index < end {
            let known = journal.covering(cursor.index).map(|skip| skip.end);
            let stop = known.or(journal.next_start(cursor.index)).unwrap_or(end).min(end);
            let before = cursor.index;
            match known {
                Some(_) => self.advance_to(cursor, stop),
                None => self.skip(cursor, journal, stop - cursor.index),
            }
            if cursor.index == before {
                return;
            }
        }
    }

    /// Draws up to the sequence `index` and gives nothing of it; stops at the run's end.
    pub fn advance_to(&self, cursor: &mut MixtureCursor, index: u64) {
        while cursor.index < index && self.next(cursor).is_some() {}
    }

    /// The canonical places of the sources, in the order in which they were given.
    pub(super) fn given_order(&self) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.order.len()).collect();
        places.sort_by_key(|place| self.order[*place]);
        places
    }

    fn window(&self, source: usize, position: u64) -> (u64, u64) {
        let windows = self.sources[source].windows;
        let epoch = position / windows;
        let stream = self.streams[source].substream(epoch);
        (epoch, Feistel::new(windows, stream).at(position % windows))
    }
}

fn canonical_order(sources: &[SourceEdition]) -> Result<Vec<usize>, MixtureError> {
    if sources.is_empty() {
        return Err(MixtureError::NoSources);
    }
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|source| sources[*source].fingerprint);
    for pair in order.windows(2) {
        let [first, second] = [&sources[pair[0]], &sources[pair[1]]];
        if first.fingerprint == second.fingerprint {
            return Err(MixtureError::DuplicateEdition {
                first: first.name.clone(),
                second: second.name.clone(),
                edition: first.fingerprint,
            });
        }
    }
    Ok(order)
}

fn chain(seed: Seed, rules: &[SegmentRule], sources: &[SourceEdition]) -> Vec<Fingerprint> {
    let mut root = FingerprintHasher::new();
    root.update(b"mixture").update(&ALGORITHM.to_le_bytes()).update(&seed.0.to_le_bytes());
    let mut before = root.finish();
    let mut hashes = Vec::with_capacity(rules.len());
    for rule in rules {
        let hash = rule.hash(before, sources);
        hashes.push(hash);
        let mut end = FingerprintHasher::new();
        end.update(b"end").update(&hash.0).update(&rule.sequences.to_le_bytes());
        before = end.finish();
    }
    hashes
}
