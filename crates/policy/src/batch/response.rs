//! Whether a growth did any good.

use serde::{Deserialize, Serialize};

use super::block::Block;
use super::decision::Response;
use super::statistics::{Line, Moments, student_quantile};

/// The chance that a growth which changed nothing passes for one that helped. Two such growths end
/// the growing, so it has to be rare; a real answer is the loss on its way to a lower noise floor
/// and lies many standard errors out.
const LEVEL: f64 = 0.005;
/// The share of the window before the growth that the answer is measured over. The error of the
/// extrapolation grows with the distance and that of the mean falls with the length: half a window
/// is near the least of their sum.
const SHARE: f64 = 0.5;

/// A growth whose answer is being measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PendingResponse {
    before: Line,
    needed_steps: f64,
    after: Moments,
}

impl PendingResponse {
    /// Begins to measure against the line that the growth was decided on.
    pub(super) fn new(before: Line, window_steps: f64) -> Self {
        let needed_steps = (SHARE * window_steps).ceil();
        Self { before, needed_steps, after: Moments::default() }
    }

    /// What the loss will be compared with if blocks begin after step `begin`, and the least drop
    /// below it that will be told from noise.
    pub(super) fn forecast(&self, begin: u64) -> (f64, f64) {
        let middle = begin as f64 + f64::midpoint(1.0, self.needed_steps);
        let (expected, error) = self.before.predicted(middle, self.needed_steps);
        (expected, student_quantile(LEVEL, self.before.freedom) * error)
    }

    /// Takes in a block after the cooldown; judges when there is enough.
    ///
    /// # Source
    ///
    /// One-sided `t` test of the mean after the growth against the extrapolated line, with the
    /// prediction error of the line. The variance is that from before the growth: a larger batch
    /// can only be less noisy, and an answer, which is a slope, would widen the variance after.
    pub(super) fn observe(&mut self, block: &Block, unresponsive: u32) -> Option<Response> {
        let steps = block.steps;
        self.after = self.after.merged(Moments::of(steps.mean_t, block.mean, steps.weight));
        if self.after.weight < self.needed_steps {
            return None;
        }
        let (expected, standard_error) =
            self.before.predicted(self.after.mean_t, self.after.weight);
        let observed = self.after.mean_y;
        let statistic = (expected - observed) / standard_error;
        let threshold = student_quantile(LEVEL, self.before.freedom);
        let responded = statistic > threshold;
        let unresponsive_growths = if responded { 0 } else { unresponsive + 1 };
        Some(Response {
            expected,
            observed,
            drop: expected - observed,
            predicted_drop: None,
            standard_error,
            statistic,
            threshold,
            responded,
            unresponsive_growths,
        })
    }
}
