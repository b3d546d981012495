//! Draws become batches.

use std::path::PathBuf;

use terrace_base::Fingerprint;
use terrace_data::{MicroBatch, Sources, Window, step_digest};
use terrace_policy::mixture::{Draw, Journal, MixtureCursor, MixtureSchedule};

use crate::{DocumentName, Error, WindowName};

/// Reads the sequences that the schedule dictates.
pub struct Loader {
    schedule: MixtureSchedule,
    sources: Sources,
    names: Vec<String>,
    sequence_length: usize,
    micro_batch_sequences: usize,
}

/// The sequences of one step, cut into micro-batches.
pub struct StepBatch {
    /// What was drawn, in order.
    pub draws: Vec<Draw>,
    /// The same, as the model reads it; the last may have fewer rows.
    pub micro_batches: Vec<MicroBatch>,
}

impl StepBatch {
    /// The targets in all rows.
    #[must_use]
    pub fn target_tokens(&self) -> u64 {
        self.micro_batches.iter().map(MicroBatch::total_target_tokens).sum()
    }

    /// The digest of the step's token ids, whatever the micro-batches are.
    #[must_use]
    pub fn token_digest(&self) -> Fingerprint {
        step_digest(&self.micro_batches)
    }
}

impl Loader {
    /// Opens the editions of a schedule, in the order in which the schedule was given them.
    ///
    /// # Errors
    ///
    /// An edition cannot be opened.
    pub fn open(
        schedule: MixtureSchedule,
        editions: &[(String, PathBuf)],
        sequence_length: usize,
        micro_batch_sequences: usize,
    ) -> Result<Self, Error> {
        let folders: Vec<&PathBuf> = editions.iter().map(|(_, folder)| folder).collect();
        Ok(Self {
            schedule,
            sources: Sources::open(&folders)?,
            names: editions.iter().map(|(name, _)| name.clone()).collect(),
            sequence_length,
            micro_batch_sequences,
        })
    }

    /// The order of the data.
    #[must_use]
    pub fn schedule(&self) -> &MixtureSchedule {
        &self.schedule
    }

    /// The editions, in the schedule's order.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The names of the sources, in the schedule's order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Takes the next `sequences` sequences; fewer at the end of the run.
    #[must_use]
    pub fn take(&self, cursor: &mut MixtureCursor, journal: &Journal, sequences: u64) -> StepBatch {
        let draws: Vec<Draw> =
            (0..sequences).map_while(|_| self.schedule.next_trained(cursor, journal)).collect();
        let micro_batches = draws
            .chunks(self.micro_batch_sequences)
            .map(|chunk| {
                let window = |d: &Draw| (d.source, self.sources.window(d.source, d.window));
                let windows: Vec<_> = chunk.iter().map(window).collect();
                MicroBatch::new(&windows, self.sequence_length)
            })
            .collect();
        StepBatch { draws, micro_batches }
    }

    /// A draw by its place.
    #[must_use]
    pub fn name(&self, draw: &Draw) -> WindowName {
        WindowName {
            source: self.names[draw.source].clone(),
            edition: self.sources.edition(draw.source).manifest().fingerprint,
            window: draw.window,
            sequence: draw.index.0,
            documents: documents(&self.sources.window(draw.source, draw.window)),
        }
    }
}

/// The documents in a window; padding is none.
fn documents(window: &Window<'_>) -> Vec<DocumentName> {
    let starts = window.document_starts;
    let ends = starts.iter().skip(1).copied().chain([window.length]);
    let name = |(start, end): (&u32, u32)| {
        let ids = (*start..end).flat_map(|place| window.tokens.get(place as usize).to_le_bytes());
        let content = Fingerprint::of_bytes(&ids.collect::<Vec<u8>>());
        DocumentName { start: *start, tokens: end - start, content }
    };
    starts.iter().zip(ends).map(name).collect()
}
