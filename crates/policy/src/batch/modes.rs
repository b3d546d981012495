//! What a user states about the modes besides the plateau test: ramp, noise scale, loss law, hybrid.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use super::settings::{BatchError, PlateauSettings};

/// A batch that grows in proportion to the tokens seen, and then stays.
///
/// # Source
///
/// GPT-3 (Brown et al. 2020, arXiv 2005.14165) grew its batch linearly over the first 4 to 12
/// billion tokens; that it moves in whole increments is Megatron-LM's `--rampup-batch-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The batch at its end; it begins with the run's first.
    pub to_sequences: u64,
    /// The tokens over which it grows, from the beginning of the run.
    pub tokens: Tokens,
    /// It grows by multiples of this many sequences.
    pub increment_sequences: u64,
}

impl Ramp {
    /// The batch of a step that begins when `tokens_seen` have been seen.
    #[must_use]
    pub fn at(&self, first_sequences: u64, tokens_seen: Tokens) -> u64 {
        if tokens_seen >= self.tokens {
            return self.to_sequences.max(first_sequences);
        }
        let way = u128::from(self.to_sequences.saturating_sub(first_sequences));
        let gone = way * u128::from(tokens_seen.0) / u128::from(self.tokens.0);
        let gone = u64::try_from(gone).expect("a share of a 64-bit number");
        first_sequences + gone / self.increment_sequences * self.increment_sequences
    }

    /// The tokens seen from which on it has each of its batches, as a schedule.
    #[must_use]
    pub fn thresholds(&self, first_sequences: u64) -> Vec<(Tokens, u64)> {
        let mut steps = vec![(Tokens(0), first_sequences)];
        let way = self.to_sequences.saturating_sub(first_sequences);
        for count in 1..=way / self.increment_sequences {
            let gained = count * self.increment_sequences;
            let at = (u128::from(gained) * u128::from(self.tokens.0)).div_ceil(u128::from(way));
            let at = u64::try_from(at).expect("a share of a 64-bit number");
            steps.push((Tokens(at), first_sequences + gained));
        }
        steps.push((self.tokens, first_sequences + way));
        // Where two batches begin at the same token, the later one holds.
        steps.reverse();
        steps.dedup_by_key(|(at, _)| *at);
        steps.reverse();
        steps
    }
}

/// The batch as the root of the noise scale: `√(cost · noise scale)`.
///
/// # Source
///
/// McCandlish et al. 2018, appendix D: the schedule that minimises `steps + tokens / cost` has
/// `B = √(cost · noise scale)`. The batch *in proportion* to the noise scale is not offered: at a
/// fixed learning rate the noise scale goes with the batch itself, so that rule either never acts or
/// runs away, while the root has a stable point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqrtRule {
    /// How many tokens a step is worth.
    pub step_cost_tokens: f64,
}

impl SqrtRule {
    /// The batch in tokens for a noise scale in tokens.
    #[must_use]
    pub fn batch_tokens(self, noise_scale: f64) -> f64 {
        (self.step_cost_tokens * noise_scale).sqrt()
    }
}

/// The batch as a power of the loss: `coefficient / loss^exponent`.
///
/// The loss is that of a tokenizer and a mixture: another tokenizer needs another coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossLaw {
    /// The batch in tokens at a loss of one nat.
    pub coefficient_tokens: f64,
    /// The power.
    pub exponent: f64,
}

impl LossLaw {
    /// The optimal batch of small models on a Chinese and English mixture.
    ///
    /// # Source
    ///
    /// MiniCPM (Hu et al. 2024, arXiv 2404.06395): `1.211e9 / L^6.2393` tokens.
    pub const MINICPM: Self = Self { coefficient_tokens: 1.211e9, exponent: 6.2393 };

    /// The line through the batches that MiniMax-01 doubled to.
    ///
    /// # Source
    ///
    /// MiniMax-01 (2025, arXiv 2501.08313): 16M tokens at 2.22 nats, 32M at 1.98, 64M at 1.77, 128M
    /// at 1.58. Its law is not printed; `16M · (2.22 / L)^6.1` is fitted to these four, within 2%.
    pub const MINIMAX: Self = Self { coefficient_tokens: 2.074e9, exponent: 6.1 };

    /// The critical batch of Kaplan et al.
    ///
    /// # Source
    ///
    /// Kaplan et al. 2020 (arXiv 2001.08361), equation 1.4: `2e8 / L^(1/0.21)` tokens.
    pub const KAPLAN: Self = Self { coefficient_tokens: 2e8, exponent: 1.0 / 0.21 };

    /// The batch in tokens at a loss in nats.
    #[must_use]
    pub fn batch_tokens(self, nats: f64) -> f64 {
        self.coefficient_tokens / nats.powf(self.exponent)
    }
}

/// What a batch is advised by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advisor {
    /// The noise of the gradient.
    NoiseScale(SqrtRule),
    /// The loss itself.
    LossLaw(LossLaw),
}

/// What bounds every growth, whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most by which one growth multiplies the batch.
    pub growth_factor: u64,
    /// The largest batch.
    pub maximum_sequences: Option<u64>,
    /// Tokens between two growths.
    pub minimum_tokens_between: Tokens,
    /// Steps that must be left of the stage at the new batch.
    pub minimum_steps_left: u64,
    /// The largest learning rate known to be stable at the run's first batch.
    pub stable_learning_rate: Option<f64>,
}

/// A batch that follows an advisor, upwards only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Following {
    /// Who says which batch is right.
    pub advisor: Advisor,
    /// What bounds a growth.
    pub limits: Limits,
}

/// A plateau test whose growths an advisor may cut or forbid.
///
/// # Source
///
/// Ours: that a loss rests says *when* a larger batch may help; the noise scale of McCandlish et al.
/// 2018, or a law of the loss, says beyond which batch it no longer does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hybrid {
    /// The test.
    pub plateau: PlateauSettings,
    /// Who is asked.
    pub advisor: Advisor,
    /// What becomes of a growth beyond the advice.
    pub power: AdvisorPower,
}

/// What an advisor may do to a growth that the losses ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdvisorPower {
    /// The batch grows to the advised one at most.
    #[default]
    Cap,
    /// A growth beyond the advised batch does not happen.
    Veto,
}

impl Limits {
    /// Bounds by a largest batch alone: doublings, at any time.
    #[must_use]
    pub fn up_to(maximum_sequences: u64) -> Self {
        Self {
            growth_factor: 2,
            maximum_sequences: Some(maximum_sequences),
            minimum_tokens_between: Tokens(0),
            minimum_steps_left: 0,
            stable_learning_rate: None,
        }
    }

    fn validate(&self) -> Result<(), BatchError> {
        if self.maximum_sequences == Some(0) {
            return Err(BatchError::Empty);
        }
        let stable = self.stable_learning_rate;
        positive("stable_learning_rate", stable.unwrap_or(1.0))?;
        let holds = self.growth_factor >= 2;
        check("growth_factor", self.growth_factor as f64, "at least 2", holds)
    }
}

impl Advisor {
    fn validate(&self) -> Result<(), BatchError> {
        match self {
            Self::NoiseScale(rule) => positive("step_cost_tokens", rule.step_cost_tokens),
            Self::LossLaw(law) => {
                positive("coefficient_tokens", law.coefficient_tokens)?;
                positive("exponent", law.exponent)
            }
        }
    }
}

impl Following {
    pub(super) fn validate(&self) -> Result<(), BatchError> {
        self.advisor.validate()?;
        self.limits.validate()
    }
}

impl Hybrid {
    pub(super) fn validate_advisor(&self) -> Result<(), BatchError> {
        self.advisor.validate()
    }
}

impl Ramp {
    pub(super) fn validate(&self) -> Result<(), BatchError> {
        if self.to_sequences == 0 || self.increment_sequences == 0 {
            return Err(BatchError::Empty);
        }
        Ok(())
    }
}

fn positive(name: &'static str, found: f64) -> Result<(), BatchError> {
    check(name, found, "a finite number above 0", found > 0.0 && found.is_finite())
}

fn check(
    name: &'static str,
    found: f64,
    expected: &'static str,
    holds: bool,
) -> Result<(), BatchError> {
    if holds { Ok(()) } else { Err(BatchError::Range { name, found, expected }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn laws_give_the_batches_of_their_sources() {
        for (nats, millions) in [(2.22, 16.0), (1.98, 32.0), (1.77, 64.0), (1.58, 128.0)] {
            let found = LossLaw::MINIMAX.batch_tokens(nats) / 1e6;
            assert!((found / millions - 1.0).abs() < 0.02, "{nats}: {found}");
        }
        // Worked by hand at 2 nats: 7.4M, 16M, 30M.
        let at_two = |law: LossLaw| law.batch_tokens(2.0) / 1e6;
        assert!((at_two(LossLaw::KAPLAN) - 7.4).abs() < 0.1);
        assert!((at_two(LossLaw::MINICPM) - 16.0).abs() < 0.1);
        assert!((at_two(LossLaw::MINIMAX) - 30.2).abs() < 0.5);
    }

    #[test]
    fn the_root_has_a_stable_point_where_the_noise_scale_follows_the_batch() {
        // At a fixed rate the noise scale settles at `rho · B` (rho is 8.93 for curvatures 1/i, a rate of 0.5 and 50 dimensions).
        let (rho, rule) = (8.93, SqrtRule { step_cost_tokens: 1.0 });
        for mut batch in [0.1, 5000.0] {
            (0..60).for_each(|_| batch = rule.batch_tokens(rho * batch));
            assert!((batch - rho).abs() < 1e-6, "{batch}");
        }
    }

    proptest! {
        #[test]
        fn a_ramp_rises_in_whole_increments_from_its_first_to_its_last(
            first in 1u64..50, way in 0u64..200, tokens in 0u64..10_000, increment in 1u64..9,
        ) {
            let ramp = Ramp {
                to_sequences: first + way,
                tokens: Tokens(tokens),
                increment_sequences: increment,
            };
            let batches: Vec<u64> = (0..=tokens).map(|at| ramp.at(first, Tokens(at))).collect();
            prop_assert!(batches.is_sorted());
            prop_assert!(tokens == 0 || batches[0] == first);
            prop_assert_eq!(*batches.last().unwrap(), first + way);
            let steps = ramp.thresholds(first);
            prop_assert!(steps.is_sorted_by(|a, b| a.0 < b.0));
            for (at, batch) in batches.iter().enumerate() {
                let reached = steps.iter().rfind(|(from, _)| from.0 <= at as u64);
                prop_assert_eq!(reached.map(|(_, sequences)| *sequences), Some(*batch));
            }
            for (at, batch) in batches[..tokens as usize].iter().enumerate() {
                let exact = first as f64 + way as f64 * at as f64 / tokens as f64;
                prop_assert!((batch - first) % increment == 0);
                prop_assert!(*batch as f64 <= exact + 1e-9);
                prop_assert!(*batch as f64 > exact - increment as f64 - 1e-9);
            }
        }
    }
}
