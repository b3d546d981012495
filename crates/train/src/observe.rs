//! What a run tells whoever watches it, and how it is told to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use terrace_base::Tokens;

use crate::{BadStep, EvaluationRecord, HeldOut, RewindRecord, SpikeStep, StepRecord};

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stage begins, or goes on after a resume.
    StageStarted {
        /// Its place, counted from zero.
        index: usize,
        /// Its name.
        name: &'a str,
        /// Its budget.
        budget_tokens: Tokens,
        /// Tokens seen so far: more than where the stage begins if a run is resumed within it.
        tokens_seen: Tokens,
    },
    /// A step was taken.
    Step(&'a StepRecord),
    /// A step was refused.
    BadStep(&'a BadStep),
    /// The loss or the gradient norm of a step spiked.
    Spike(&'a SpikeStep),
    /// The run went back to before a spike.
    Rewound(&'a RewindRecord),
    /// The controller decided something, as it is written to `decisions.jsonl`.
    Decision {
        /// One line for people.
        summary: &'a str,
        /// Whether the batch grew.
        grew: bool,
    },
    /// The held-out loss is being measured.
    Validating {
        /// Sequences done.
        done: u64,
        /// Sequences in all.
        total: u64,
    },
    /// The held-out loss was measured.
    Validated(&'a HeldOut),
    /// The model was evaluated.
    Evaluated(&'a EvaluationRecord),
    /// A checkpoint is on disk.
    Saved {
        /// Its folder.
        path: &'a Path,
        /// Its size.
        bytes: u64,
    },
    /// The run was told to stop, and did, after the step it was in.
    Stopped {
        /// Tokens seen.
        tokens_seen: Tokens,
    },
}

/// Watches a run.
pub trait Observer {
    /// Takes notice of an event; must not fail.
    fn event(&mut self, event: &Event<'_>);
}

impl<F: FnMut(&Event<'_>)> Observer for F {
    fn event(&mut self, event: &Event<'_>) {
        self(event);
    }
}

/// A request to stop after the current step, shared between threads and signal handlers.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks the run to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the run was asked to stop.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, for a signal handler to set.
    #[must_use]
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
