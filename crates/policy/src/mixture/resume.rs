//! How a saved cursor is taken up again, in the same schedule or in an edited one.

use terrace_base::Fingerprint;

use super::cursor::{EnteredSegment, MixtureCursor};
use super::error::MixtureError;
use super::schedule::{ALGORITHM, MixtureSchedule};
use super::segment::Segment;

impl MixtureSchedule {
    /// The segments that a cursor went through, the current one cut where the cursor stands: what
    /// an edit in mid-run has to keep before it appends its own.
    #[must_use]
    pub fn past_segments(&self, cursor: &MixtureCursor) -> Vec<Segment> {
        let mut past = self.segments[..=cursor.segment()].to_vec();
        let drawn = cursor.drawn_in_segment();
        match past.last_mut() {
            Some(current) if drawn > 0 => current.sequences = drawn,
            _ => drop(past.pop()),
        }
        past
    }

    /// Checks a saved cursor against this schedule and brings it to the schedule's sources.
    ///
    /// Sources that are new start at zero, all others continue at their own next window.
    ///
    /// # Errors
    ///
    /// The cursor is damaged, comes from another algorithm, or something that it has drawn from
    /// was changed or taken away; later segments may differ.
    pub fn resume(&self, saved: &MixtureCursor) -> Result<MixtureCursor, MixtureError> {
        if saved.algorithm != ALGORITHM {
            let found = saved.algorithm;
            return Err(MixtureError::Algorithm { found, expected: ALGORITHM });
        }
        if let Some(what) = saved.damage() {
            return Err(MixtureError::Damaged { what });
        }
        let mut cursor = saved.clone();
        self.renew_untouched(&mut cursor);
        self.check_segments(&cursor)?;
        self.realigned(&cursor)
    }

    /// Checks a saved cursor against this schedule.
    ///
    /// # Errors
    ///
    /// Those of [`resume`](Self::resume).
    pub fn validate(&self, saved: &MixtureCursor) -> Result<(), MixtureError> {
        self.resume(saved).map(drop)
    }

    /// A segment that was entered but not drawn from may still become another.
    fn renew_untouched(&self, cursor: &mut MixtureCursor) {
        if cursor.drawn_in_segment() > 0 {
            return;
        }
        match self.hashes.get(cursor.segment()) {
            Some(hash) => cursor.entered.last_mut().expect("a segment was entered").hash = *hash,
            None => drop(cursor.entered.pop()),
        }
    }

    fn check_segments(&self, saved: &MixtureCursor) -> Result<(), MixtureError> {
        for (segment, entered) in saved.entered.iter().enumerate() {
            let Some(rule) = self.rules.get(segment) else {
                let (segment, segments) = (saved.segment(), self.rules.len());
                return Err(MixtureError::SegmentMissing { segment, segments });
            };
            if entered.hash != self.hashes[segment] {
                let (found, expected) = (entered.hash, self.hashes[segment]);
                return Err(MixtureError::SegmentChanged { segment, found, expected });
            }
            let (_, drawn) = saved.drawn_within(segment);
            if drawn > rule.sequences {
                let sequences = rule.sequences;
                return Err(MixtureError::SegmentTooShort { segment, sequences, drawn });
            }
        }
        Ok(())
    }

    fn realigned(&self, saved: &MixtureCursor) -> Result<MixtureCursor, MixtureError> {
        let known = |edition| self.sources.iter().any(|source| source.fingerprint == edition);
        let missing = saved.editions.iter().zip(&saved.counts);
        for (edition, drawn) in missing.filter(|(_, drawn)| **drawn > 0) {
            if !known(*edition) {
                return Err(MixtureError::SourceMissing { edition: *edition, drawn: *drawn });
            }
        }
        let editions: Vec<Fingerprint> = self.sources.iter().map(|s| s.fingerprint).collect();
        let place = |edition| saved.editions.iter().position(|known| known == edition);
        let places: Vec<Option<usize>> = editions.iter().map(place).collect();
        let row = |counts: &[u64]| places.iter().map(|p| p.map_or(0, |p| counts[p])).collect();
        let entered = saved.entered.iter().map(|entered| EnteredSegment {
            base_counts: row(&entered.base_counts),
            ..entered.clone()
        });
        Ok(MixtureCursor {
            algorithm: saved.algorithm,
            index: saved.index,
            counts: row(&saved.counts),
            entered: entered.collect(),
            editions,
        })
    }
}
