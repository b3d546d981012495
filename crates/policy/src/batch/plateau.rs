//! The plateau controller of one stage: an equivalence test on the slope of block means.

use serde::{Deserialize, Serialize};

use super::decision::{Evidence, Response, Verdict};
use super::response::PendingResponse;
use super::settings::PlateauSettings;
use super::statistics::{Line, student_quantile};
use super::window::Window;
use super::{Observation, StageInfo};

/// The level at which a loss is called falling or rising. Neither verdict can grow the batch, so
/// neither spends alpha.
const SIDE_LEVEL: f64 = 0.05;
/// An estimate of the descent at or above this many thresholds ends a pending confirmation, even
/// where the window is not sharp enough for a test.
const REARM: f64 = 1.5;
/// The normal quantile of the power that a window must have to be tested: a loss at rest passes with
/// eight chances in ten.
const POWER_QUANTILE: f64 = 0.841_621_2;
/// No look is made at a level above this, however much alpha is left: a chain of coins is no proof.
const LARGEST_LEVEL: f64 = 0.1;
/// A stage is divided into this many shortest blocks, so that the first look comes after about 1 %
/// of it, about as early as the alpha earned by then can decide anything.
const SHORTEST_BLOCKS: u64 = 1024;
/// The window is at most this share of the stage: a longer one could not be confirmed within it.
const LONGEST_WINDOW: f64 = 0.5;
/// Less is no level that a `t` quantile is worth computing for.
const LEAST_ALPHA: f64 = 1e-9;

/// What is known about a stage; part of the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PlateauState {
    /// Nats per step, fixed for the stage.
    pub(super) delta: f64,
    /// Steps observed in the stage, whatever became of them: the time axis of every line.
    steps: u64,
    /// Steps that the whole stage would have at the current batch.
    stage_steps: f64,
    weights: Vec<f64>,
    settled_at: u64,
    cooldown_until: u64,
    learning_rate: Option<f64>,
    window: Window,
    looks: u64,
    alpha_spent: f64,
    confirmations: u32,
    response: Option<PendingResponse>,
    unresponsive: u32,
    pub(super) exhausted: bool,
}

/// What a step led to.
pub(super) enum Finding {
    /// The window was looked at.
    Look { verdict: Verdict, evidence: Evidence, line: Line },
    /// The answer to the last growth was judged.
    Answer(Response),
}

impl PlateauState {
    /// Begins a stage whose first batch is `first_tokens` long.
    pub(super) fn new(settings: &PlateauSettings, stage: &StageInfo, first_tokens: u64) -> Self {
        let stage_steps = stage.budget_tokens.0 as f64 / first_tokens as f64;
        let sources = stage.reference_weights.len();
        Self {
            delta: settings.nats_per_percent * 100.0 / stage_steps,
            steps: 0,
            stage_steps,
            weights: stage.reference_weights.clone(),
            settled_at: stage.start_tokens.0 + stage.settle_tokens.0,
            cooldown_until: 0,
            learning_rate: None,
            window: empty_window(sources, stage_steps),
            looks: 0,
            alpha_spent: 0.0,
            confirmations: 0,
            response: None,
            unresponsive: 0,
            exhausted: false,
        }
    }

    /// The same for a stage that has begun, of which `before` knows and in which the batch has grown
    /// by `growth`.
    pub(super) fn carried(mut self, before: Option<&Self>, growth: f64) -> Self {
        if let Some(before) = before {
            self.weights.clone_from(&before.weights);
            self.settled_at = before.settled_at;
            self.cooldown_until = before.cooldown_until.saturating_sub(before.steps);
            self.alpha_spent = before.alpha_spent;
            self.looks = before.looks;
        }
        self.stage_steps /= growth;
        self.window = empty_window(self.weights.len(), self.stage_steps);
        self
    }

    /// Takes in one optimizer step.
    ///
    /// `alpha_earned` is the part of alpha that the elapsed share of the stage has released.
    pub(super) fn observe(
        &mut self,
        settings: &PlateauSettings,
        observation: &Observation<'_>,
        alpha_earned: f64,
    ) -> Option<Finding> {
        self.steps += 1;
        if self.learning_rate != Some(observation.learning_rate) {
            // While a warm-up lasts, this forgets every step, so that the test begins behind it.
            self.learning_rate = Some(observation.learning_rate);
            self.flush();
        }
        let settling = observation.tokens_seen.0 <= self.settled_at;
        if settling || self.steps <= self.cooldown_until {
            return None;
        }
        let flagged = observation.is_spike;
        let block = self.window.push(self.steps, observation.sources, &self.weights, flagged)?;
        let pending = self.response.as_mut();
        if let Some(response) = pending.and_then(|p| p.observe(&block, self.unresponsive)) {
            self.response = None;
            self.unresponsive = response.unresponsive_growths;
            self.exhausted = self.unresponsive >= settings.unresponsive_growths;
            return Some(Finding::Answer(response));
        }
        let line = self.window.look()?;
        let (verdict, evidence) = self.judge(settings, &line, alpha_earned);
        Some(Finding::Look { verdict, evidence, line })
    }

    /// Whether enough plateaus have been seen in a row.
    pub(super) fn is_confirmed(&self, settings: &PlateauSettings) -> bool {
        self.confirmations >= settings.confirmations
    }

    /// Whether the answer to the last growth is still being measured.
    pub(super) fn awaits_response(&self) -> bool {
        self.response.is_some()
    }

    /// The batch grew by `factor`: forget what was before, wait, and measure the answer against
    /// `line`; gives the steps of the wait.
    pub(super) fn grown(&mut self, settings: &PlateauSettings, line: Line, factor: f64) -> u64 {
        let window = self.window.steps();
        self.stage_steps /= factor;
        self.flush();
        self.response = Some(PendingResponse::new(line, window));
        let cooldown = settings.cooldown_steps.unwrap_or_else(|| settings.derived_cooldown(window));
        self.cooldown_until = self.steps.saturating_add(cooldown);
        cooldown
    }

    /// What the loss will be compared with after a cooldown from here, and the least drop below it
    /// that will be told from noise; none unless a growth awaits its answer.
    pub(super) fn forecast(&self, cooldown: u64) -> Option<(f64, f64)> {
        let begin = self.steps.saturating_add(cooldown);
        self.response.as_ref().map(|response| response.forecast(begin))
    }

    /// The mix changed within the stage: losses before and after are not comparable, and until
    /// `settled_at` tokens the new ones say nothing about a slope.
    pub(super) fn mix_changed(&mut self, weights: &[f64], settled_at: u64) {
        self.weights = weights.to_vec();
        self.settled_at = self.settled_at.max(settled_at);
        self.flush();
    }

    fn flush(&mut self) {
        self.window = empty_window(self.weights.len(), self.stage_steps);
        self.confirmations = 0;
        self.response = None;
    }

    /// One look at the window.
    ///
    /// # Source
    ///
    /// The test's null hypothesis is a descent of at least delta, so noise makes it hold still, not
    /// fire. It is made only where the window is sharp enough for a loss at rest to pass,
    /// `(t + z) · SE ≤ delta`; that depends on the error alone, which for normal noise is independent
    /// of the slope.
    ///
    /// A growth takes `c` plateaus in a row, each behind the older half of the window before. What
    /// two such windows share is the late half of one and the early half of the other, where the
    /// weights of a slope have opposite signs, so that the slopes are negatively correlated (−1/4
    /// for equal windows), and by Slepian's inequality the chance that all err is at most the
    /// product of their levels: a look at level `p` would be charged `p^c`, since by the inequality
    /// of the means the products over all chains are at most the sum of these. That takes the errors
    /// as known; where they are estimated, from half of the same losses and with a memory that a
    /// short window hides, chains err more often. So the charge is `p^((1+c)/2)`, half way to a look
    /// that stands alone. A tested window that is no plateau ends the chain, so that there are no
    /// others.
    ///
    /// Alpha is spent in proportion to the stage: a look may use what the elapsed share of tokens has
    /// released and earlier looks have left. However many looks there are, at whatever windows and
    /// after whatever growths, the charges sum to alpha at most, and by Bonferroni's inequality so
    /// does the chance of any growth in error.
    fn judge(
        &mut self,
        settings: &PlateauSettings,
        line: &Line,
        alpha_earned: f64,
    ) -> (Verdict, Evidence) {
        let (slope, error) = (line.slope(), line.slope_error());
        let exponent = (1.0 + f64::from(settings.confirmations)) / 2.0;
        let available = (alpha_earned - self.alpha_spent).max(LEAST_ALPHA);
        let level = available.powf(1.0 / exponent).min(LARGEST_LEVEL);
        let threshold = student_quantile(level, line.freedom);
        let tested = available > LEAST_ALPHA && (threshold + POWER_QUANTILE) * error <= self.delta;
        let alpha_look = if tested { level.powf(exponent) } else { 0.0 };
        self.alpha_spent += alpha_look;
        self.looks += 1;
        let side = student_quantile(SIDE_LEVEL, line.freedom) * error;
        let statistic = (slope + self.delta) / error;
        let verdict = match () {
            () if slope - side > 0.0 => Verdict::Rising,
            () if tested && statistic > threshold => Verdict::Plateau,
            () if slope + side < -self.delta => Verdict::Improving,
            () => Verdict::Undecided,
        };
        let falls = slope <= -REARM * self.delta;
        self.confirmations = match verdict {
            Verdict::Plateau => (self.confirmations + 1).min(settings.confirmations),
            Verdict::Undecided if !tested && !falls => self.confirmations,
            _ => 0,
        };
        let evidence = Evidence {
            slope_nats_per_step: slope,
            standard_error: error,
            statistic,
            threshold,
            tested,
            alpha_look,
            alpha_spent: self.alpha_spent,
            look: self.looks,
            confirmations: self.confirmations,
            window_steps: self.window.steps() as u64,
            blocks: self.window.blocks(),
            block_steps: self.window.block_steps(),
            noise_sd: self.window.noise_sd(),
            autocorrelation: self.window.autocorrelation(),
            block_autocorrelation: line.autocorrelation,
        };
        self.slide(settings, verdict, tested);
        (verdict, evidence)
    }

    /// Where the window goes after a verdict: on by half where one was reached. An undecided one
    /// widens until it is sharp enough, and then moves on by a quarter: what makes it undecided is
    /// then the past, which a wider one would only hold for longer.
    fn slide(&mut self, settings: &PlateauSettings, verdict: Verdict, sharp: bool) {
        match verdict {
            // A confirmed plateau keeps its window: a growth measures the answer by its length.
            Verdict::Plateau if self.is_confirmed(settings) => {}
            Verdict::Undecided if !sharp => {}
            Verdict::Undecided => self.window.drop_oldest(4),
            Verdict::Plateau | Verdict::Improving | Verdict::Rising => self.window.drop_oldest(2),
        }
    }
}

/// A window for a stage that has so many steps at the current batch: a larger batch is less noisy and
/// has fewer steps, so that its blocks can be, and have to be, shorter.
fn empty_window(sources: usize, stage_steps: f64) -> Window {
    // Two steps are the least that a difference of neighbours can be taken in.
    let shortest_block = ((stage_steps / SHORTEST_BLOCKS as f64).ceil() as u64).max(2);
    let longest_window = ((LONGEST_WINDOW * stage_steps) as u64).max(shortest_block);
    Window::new(sources, shortest_block, longest_window)
}
