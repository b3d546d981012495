//! Whether a growth that the losses ask for may happen.

use super::decision::Guard;
use super::settings::PlateauSettings;

/// What a growth is weighed against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) batch_sequences: u64,
    /// The batch that the run began with.
    pub(super) first_sequences: u64,
    pub(super) sequence_length: u64,
    pub(super) tokens_seen: u64,
    /// The tokens at which the stage ends.
    pub(super) stage_end: u64,
    /// The tokens at which the batch last grew.
    pub(super) last_growth: Option<u64>,
    pub(super) learning_rate: f64,
    pub(super) is_exhausted: bool,
    pub(super) awaits_response: bool,
}

impl Circumstances {
    /// The batch that a growth leads to, or what stands in its way.
    pub(super) fn larger_batch(&self, settings: &PlateauSettings) -> Result<u64, Guard> {
        let from = self.batch_sequences;
        let wanted = from.saturating_mul(settings.growth_factor);
        let wanted = wanted.min(settings.maximum_sequences.unwrap_or(u64::MAX));
        // A float cast saturates, so an enormous bound is simply no bound.
        let stable = settings.stable_learning_rate.map_or(u64::MAX, |stable| {
            (self.first_sequences as f64 * (stable / self.learning_rate).powi(2)) as u64
        });
        let to = wanted.min(stable);
        let tokens_left = self.stage_end.saturating_sub(self.tokens_seen);
        let steps_left = tokens_left / to.saturating_mul(self.sequence_length);
        let rest = settings.minimum_tokens_between.0;
        let rests = self.last_growth.is_some_and(|at| self.tokens_seen < at.saturating_add(rest));
        match () {
            () if self.is_exhausted => Err(Guard::Exhausted),
            () if wanted <= from => Err(Guard::MaximumBatch),
            () if to <= from => Err(Guard::Stability),
            () if self.awaits_response => Err(Guard::AwaitingResponse),
            () if rests => Err(Guard::TokensBetween),
            () if steps_left < settings.steps_left_needed() => Err(Guard::StepsLeft),
            () => Ok(to),
        }
    }
}

impl Guard {
    /// The same in words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Exhausted => "a plateau, but growths no longer help",
            Self::MaximumBatch => "a plateau, but the batch is the largest allowed",
            Self::TokensBetween => "a plateau, but the last growth is too recent",
            Self::StepsLeft => "a plateau, but too few steps would be left of the stage",
            Self::Stability => "a plateau, but the larger batch may be unstable",
            Self::AwaitingResponse => "a plateau, but the last growth has not been judged",
        }
    }
}
