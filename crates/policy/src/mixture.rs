//! Which window of which source is the i-th sequence of a run.
//!
//! Two rules, both in integers. *Which source*: Tijdeman's, which keeps every source within one
//! sequence of its quota at every prefix of a segment, for constant and for linearly changing
//! weights. *Which window*: a Feistel permutation of the source's own cursor, keyed by seed,
//! edition and epoch. Cursors count over the whole run, so no window of a source comes again before
//! all have been seen, whatever happens to the mix in between.
//!
//! A [`MixtureSchedule`] is the plan, a [`MixtureCursor`] a place in it, a [`Journal`] what was
//! passed over, and [`Anchors`] give random access.
//!
//! An edit in mid-run makes a new schedule from
//! [`past_segments`](MixtureSchedule::past_segments) and the segments that are to follow, and
//! [`resume`](MixtureSchedule::resume)s the cursor in it. Each segment keeps its own quotas, so
//! the promise of less than one sequence holds within each.

mod anchors;
mod caps;
mod cursor;
mod error;
mod feistel;
mod journal;
mod quota;
mod report;
mod resume;
mod schedule;
mod segment;
mod tijdeman;

pub use anchors::Anchors;
pub use cursor::MixtureCursor;
pub use error::{CapExcess, MixtureError};
pub use journal::{Journal, Skip};
pub use report::{SegmentReport, SourceProgress, SourceReport};
pub use schedule::{ALGORITHM, Draw, MixtureSchedule, SourceEdition};
pub use segment::Segment;

#[cfg(test)]
mod tests;
