//! What is to become of a step that spikes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::detector::{Detector, SpikeEvidence};
use super::settings::{SpikePolicy, SpikeSettings};

/// A step as it is before its update is applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLoss {
    /// The first sequence of the step.
    pub start: u64,
    /// The sequence behind its last.
    pub end: u64,
    /// The sequences of a whole step.
    pub batch_sequences: u64,
    /// The mean loss per target.
    pub nats: f64,
    /// The global norm of the mean gradient before clipping.
    pub gradient_norm: f64,
}

impl StepLoss {
    /// The sequences of the step.
    #[must_use]
    pub fn sequences(&self) -> u64 {
        self.end - self.start
    }
}

/// What is to become of a step, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The numbers that made it a spike; none if it is none, or if its numbers are not finite.
    pub evidence: Option<SpikeEvidence>,
    /// What to do.
    pub action: Action,
}

/// What is to become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its update is applied.
    Apply,
    /// Its update is not applied.
    Withhold,
    /// Its update is not applied, and the run goes back.
    Rewind(Rewind),
    /// The run would have to go back once more than it may.
    GiveUp(Rewind),
}

/// Where a run goes back to, and what it then passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// The first sequence of the spike: the state has to be from before it.
    pub began: u64,
    /// The first sequence to pass over.
    pub skip_start: u64,
    /// The sequence behind the last to pass over.
    pub skip_end: u64,
    /// How often the run has gone back, this time included.
    pub rewinds: u32,
}

/// What is remembered about spikes; part of the checkpoint.
///
/// # Determinism
///
/// Verdicts are a function of the settings and of what was told so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpikeWatch {
    detector: Detector,
    /// Where the last applied steps began, the newest last.
    before: VecDeque<u64>,
    /// The spike that goes on, where the run may go back for it.
    episode: Option<Episode>,
    /// What the run passes over because it went back, in the order in which it did: `start..end`.
    passed_over: Vec<[u64; 2]>,
}

/// Spiking steps in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Episode {
    began: u64,
    skip_start: u64,
    steps: u32,
}

impl SpikeWatch {
    /// Judges a step before its update is applied.
    ///
    /// A step whose update is withheld leaves no trace in the detector; one that is only written
    /// down does, so that a level that stays becomes the level.
    pub fn judge(&mut self, settings: &SpikeSettings, step: &StepLoss) -> Verdict {
        if settings.policy == SpikePolicy::Off {
            return Verdict { evidence: None, action: Action::Apply };
        }
        let evidence = self.detector.look(settings, step);
        if evidence.is_some() && settings.policy.withholds() {
            return Verdict { evidence, action: self.spiked(settings, step.start, step.end) };
        }
        self.detector.learn(settings, step);
        self.episode = None;
        self.before.push_back(step.start);
        while self.before.len() > settings.lead_steps {
            self.before.pop_front();
        }
        Verdict { evidence, action: Action::Apply }
    }

    /// Takes note of a step over the sequences `start..end` whose loss or gradient is not finite: its
    /// update is withheld anyway, and for the rewind policy it is a spike like any other.
    pub fn not_finite(&mut self, settings: &SpikeSettings, [start, end]: [u64; 2]) -> Action {
        self.spiked(settings, start, end)
    }

    /// Takes note of a step over the sequences `start..end` whose loss or gradient is not finite, and
    /// which has changed the model: however few came before it, the run goes back.
    pub fn lost(&mut self, settings: &SpikeSettings, [start, end]: [u64; 2]) -> Action {
        let at_once = SpikeSettings {
            policy: SpikePolicy::Rewind,
            rewind_after_steps: 1,
            ..settings.clone()
        };
        self.spiked(&at_once, start, end)
    }

    fn spiked(&mut self, settings: &SpikeSettings, start: u64, end: u64) -> Action {
        if settings.policy != SpikePolicy::Rewind {
            return Action::Withhold;
        }
        let skip_start = self.before.front().copied().unwrap_or(start);
        let first = Episode { began: start, skip_start, steps: 0 };
        let episode = self.episode.get_or_insert(first);
        episode.steps += 1;
        if episode.steps < settings.rewind_after_steps {
            return Action::Withhold;
        }
        let rewind = Rewind {
            began: episode.began,
            skip_start: episode.skip_start,
            skip_end: end,
            rewinds: self.rewinds() + 1,
        };
        match self.rewinds() < settings.max_rewinds {
            true => Action::Rewind(rewind),
            false => Action::GiveUp(rewind),
        }
    }

    /// The losses to come are not comparable with those so far: a stage or a mixture began, or the
    /// batch changed.
    pub fn rebaseline(&mut self) {
        let passed_over = std::mem::take(&mut self.passed_over);
        *self = Self { passed_over, ..Self::default() };
    }

    /// The run has gone back, and this is the memory of the state that it went back to: it learns
    /// what the run that was given up knew to pass over, and what else there is now.
    ///
    /// Nothing but these ranges crosses over, so that the run goes on in the same way however far
    /// back the state was.
    pub fn rewound(&mut self, given_up: &Self, rewind: &Rewind) {
        self.episode = None;
        self.passed_over.clone_from(&given_up.passed_over);
        self.passed_over.push([rewind.skip_start, rewind.skip_end]);
    }

    /// What the run passes over because it went back: ranges `start..end` of sequences, which may
    /// overlap.
    #[must_use]
    pub fn passed_over(&self) -> &[[u64; 2]] {
        &self.passed_over
    }

    /// While a spike goes on that the run may go back for, the sequence that a state to go back to
    /// must not have seen.
    #[must_use]
    pub fn needs_state_before(&self) -> Option<u64> {
        self.episode.as_ref().map(|episode| episode.skip_start)
    }

    /// How often the run has gone back.
    #[must_use]
    pub fn rewinds(&self) -> u32 {
        u32::try_from(self.passed_over.len()).unwrap_or(u32::MAX)
    }
}
