//! Random access into the stream of a run.

use super::cursor::MixtureCursor;
use super::schedule::{Draw, MixtureSchedule};

/// Cursors at regular places, so that any sequence is a short replay away.
///
/// They are made when a place behind them is first asked for, and kept.
///
/// # Determinism
///
/// Only a cache: answers are those of a replay from the start.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    cursors: Vec<MixtureCursor>,
}

impl Anchors {
    /// Sequences between two anchors: 0.2T tokens of 4,096 take 745 of them, and a replay from one
    /// takes some hundredths of a second.
    pub const SPACING: u64 = 1 << 16;

    /// No anchors yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The sequence at `index`; none behind the end of the run.
    pub fn at(&mut self, schedule: &MixtureSchedule, index: u64) -> Option<Draw> {
        let mut cursor = self.cursor_at(schedule, index)?;
        schedule.next(&mut cursor)
    }

    /// The cursor that draws `index` next; none behind the end of the run.
    pub fn cursor_at(&mut self, schedule: &MixtureSchedule, index: u64) -> Option<MixtureCursor> {
        if index > schedule.sequences() {
            return None;
        }
        if self.cursors.is_empty() {
            self.cursors.push(schedule.cursor_at_start());
        }
        let wanted = (index / Self::SPACING) as usize;
        while self.cursors.len() <= wanted {
            let end = self.cursors.len() as u64 * Self::SPACING;
            let last = self.cursors.last().expect("the first anchor is the start").clone();
            self.cursors.push(advanced(schedule, last, end));
        }
        Some(advanced(schedule, self.cursors[wanted].clone(), index))
    }
}

fn advanced(schedule: &MixtureSchedule, mut cursor: MixtureCursor, index: u64) -> MixtureCursor {
    while cursor.index < index {
        schedule.next(&mut cursor).expect("the index is within the run");
    }
    cursor
}
