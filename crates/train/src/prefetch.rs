//! The next step's sequences, read while the present one trains.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use terrace_policy::mixture::{Journal, MixtureCursor};
use tracing::trace_span;

use crate::{Loader, StepBatch};

/// Reads ahead by one step.
///
/// What a step draws is a function of cursor, journal and number alone: what was read ahead is only
/// taken where all three are what was expected, and read again where they are not.
pub(crate) struct Prefetch {
    loader: Arc<Loader>,
    ahead: Option<Ahead>,
}

struct Ahead {
    from: MixtureCursor,
    journal: Journal,
    sequences: u64,
    thread: JoinHandle<(StepBatch, MixtureCursor)>,
}

impl Prefetch {
    pub(crate) fn new(loader: Arc<Loader>) -> Self {
        Self { loader, ahead: None }
    }

    /// As [`Loader::take`].
    pub(crate) fn take(
        &mut self,
        cursor: &mut MixtureCursor,
        journal: &Journal,
        sequences: u64,
    ) -> StepBatch {
        match self.ahead.take() {
            Some(ahead) if ahead.is_what(cursor, journal, sequences) => {
                let read = ahead.thread.join();
                let (batch, end) = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                *cursor = end;
                batch
            }
            _ => self.loader.take(cursor, journal, sequences),
        }
    }

    /// Begins to read the `sequences` that follow on `cursor`.
    pub(crate) fn begin(&mut self, cursor: &MixtureCursor, journal: &Journal, sequences: u64) {
        if sequences == 0 {
            return;
        }
        let (from, journal) = (cursor.clone(), journal.clone());
        let (loader, mut end, known) = (Arc::clone(&self.loader), from.clone(), journal.clone());
        let read = move || {
            let _load = trace_span!("load_ahead").entered();
            let batch = loader.take(&mut end, &known, sequences);
            (batch, end)
        };
        // Without a thread the step reads for itself.
        let thread = thread::Builder::new().name("loader".to_owned()).spawn(read);
        self.ahead = thread.ok().map(|thread| Ahead { from, journal, sequences, thread });
    }
}

impl Ahead {
    fn is_what(&self, cursor: &MixtureCursor, journal: &Journal, sequences: u64) -> bool {
        self.sequences == sequences && self.from == *cursor && self.journal == *journal
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use terrace_base::{Fingerprint, Seed};
    use terrace_data::{Edition, EditionHeader, Packing, write_documents};
    use terrace_policy::mixture::{MixtureSchedule, Segment, SourceEdition};

    use super::*;

    fn edition(folder: &Path, source: &str, windows: u32) -> SourceEdition {
        let header = EditionHeader {
            source: source.to_owned(),
            sequence_length: 4,
            packing: Packing::ConcatAndChunk,
            eos_token_id: Some(0),
            tokenizer: Fingerprint::of_bytes(b"tiny"),
            byte_lengths: Arc::from(vec![1u32; 1000]),
        };
        std::fs::create_dir_all(folder).unwrap();
        let ids: Vec<u32> = (0..=windows * 4).map(|i| 1 + i % 900).collect();
        write_documents(folder, header, &[ids]).unwrap();
        let fingerprint = Edition::open(folder).unwrap().manifest().fingerprint;
        let name = source.to_owned();
        SourceEdition { name, fingerprint, windows: u64::from(windows), max_windows: None }
    }

    #[test]
    fn reading_ahead_changes_nothing_of_what_is_read() {
        let home = tempfile::tempdir().unwrap();
        let names = ["prose", "code"].map(|name| (name.to_owned(), home.path().join(name)));
        let sources = vec![edition(&names[0].1, "prose", 40), edition(&names[1].1, "code", 13)];
        let segment = Segment::constant(400, vec![3, 1]);
        let schedule = MixtureSchedule::new(Seed(3), sources, vec![segment]).unwrap();
        let loader = Arc::new(Loader::open(schedule, &names, 4, 2).unwrap());
        let random = Seed(11).stream("choices");
        let choose = |step: u64, what: u64, below: u64| random.at(8 * step + what) % below;

        let mut prefetch = Prefetch::new(Arc::clone(&loader));
        let start = loader.schedule().cursor_at_start();
        let (mut one, mut other) = (start.clone(), start);
        let mut journal = Journal::default();
        let mut met = 0;
        for step in 0..90 {
            // What was expected in two of three steps; less at the end of the stream.
            let sequences = 2 + u64::from(choose(step, 0, 3) == 0) * choose(step, 1, 4);
            met += u64::from(
                prefetch.ahead.as_ref().is_some_and(|a| a.is_what(&one, &journal, sequences)),
            );
            let ahead = prefetch.take(&mut one, &journal, sequences);
            prefetch.begin(&one, &journal, 2);
            let plain = loader.take(&mut other, &journal, sequences);
            assert_eq!((&ahead.draws, &one), (&plain.draws, &other), "step {step}");
            assert_eq!(ahead.token_digest(), plain.token_digest(), "step {step}");
            // Something ahead is passed over, or the run goes back, which nobody expected.
            if choose(step, 2, 7) == 0 {
                let begin = one.index().0 + 1;
                let mut cursor = one.clone();
                loader.schedule().advance_to(&mut cursor, begin);
                loader.schedule().skip_to(&mut cursor, &mut journal, begin + 3);
            }
            if step == 40 {
                (one, other) =
                    (loader.schedule().cursor_at_start(), loader.schedule().cursor_at_start());
            }
        }
        assert!((30..80).contains(&met), "{met} of 90 were read ahead");
    }
}
