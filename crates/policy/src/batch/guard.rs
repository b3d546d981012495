//! Whether a growth that is asked for may happen.

use super::decision::Guard;
use super::modes::Limits;

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
    /// Before it follows the batch.
    pub(super) learning_rate: f64,
    /// The power of the batch that the learning rate follows it with.
    pub(super) rate_exponent: f64,
    pub(super) is_exhausted: bool,
    pub(super) awaits_response: bool,
}

impl Circumstances {
    /// The batch that a growth towards `wanted` leads to, or what stands in its way.
    ///
    /// # Source
    ///
    /// Under Adam the effective step grows with the root of the batch, and with the rate if that
    /// follows: `(batch / first)^(1/2 + exponent)` times the rate has to stay within what is stable.
    pub(super) fn larger_batch(&self, limits: &Limits, wanted: u64) -> Result<u64, Guard> {
        let from = self.batch_sequences;
        let wanted = wanted.min(from.saturating_mul(limits.growth_factor));
        let wanted = wanted.min(limits.maximum_sequences.unwrap_or(u64::MAX));
        // A float cast saturates, so an enormous bound is simply no bound.
        let stable = limits.stable_learning_rate.map_or(u64::MAX, |stable| {
            let times = (stable / self.learning_rate).powf(1.0 / (0.5 + self.rate_exponent));
            (self.first_sequences as f64 * times) as u64
        });
        let to = wanted.min(stable);
        let tokens_left = self.stage_end.saturating_sub(self.tokens_seen);
        let steps_left = tokens_left / to.max(1).saturating_mul(self.sequence_length);
        let rest = limits.minimum_tokens_between.0;
        let rests = self.last_growth.is_some_and(|at| self.tokens_seen < at.saturating_add(rest));
        match () {
            () if self.is_exhausted => Err(Guard::Exhausted),
            () if wanted <= from => Err(Guard::MaximumBatch),
            () if to <= from => Err(Guard::Stability),
            () if self.awaits_response => Err(Guard::AwaitingResponse),
            () if rests => Err(Guard::TokensBetween),
            () if steps_left < limits.minimum_steps_left => Err(Guard::StepsLeft),
            () => Ok(to),
        }
    }
}

impl Guard {
    /// The same in words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Exhausted => "growths no longer help",
            Self::MaximumBatch => "the batch is the largest allowed",
            Self::TokensBetween => "the last growth is too recent",
            Self::StepsLeft => "too few steps would be left of the stage",
            Self::Stability => "the larger batch may be unstable",
            Self::AwaitingResponse => "the last growth has not been judged",
            Self::Advice => "the larger batch is beyond the advised one",
            Self::AdviceUnknown => "nothing is known yet of what the advice is made from",
        }
    }
}
