//! What else changes when the batch does: learning rate, second-moment decay, weight decay.

use serde::{Deserialize, Serialize};

/// How the learning rate follows the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearningRateCoupling {
    /// It does not.
    ///
    /// # Source
    ///
    /// 01.AI's Yi-9B; under Adam the noise floor goes with `rate / √batch`, so that the growth lowers
    /// it only if the rate stays.
    #[default]
    None,
    /// By the root of the batch.
    ///
    /// # Source
    ///
    /// Malladi et al. 2022 (arXiv 2205.10287): the scaling under which Adam follows the same
    /// stochastic differential equation. Cancels the lower noise floor; for warm-ups of the batch.
    Sqrt,
    /// In proportion to the batch.
    ///
    /// # Source
    ///
    /// Goyal et al. 2017 (arXiv 1706.02677), for SGD; under Adam it raises the noise floor.
    Linear,
}

/// How the decay of the second moment follows the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beta2Coupling {
    /// It does not: the memory is so many steps.
    #[default]
    None,
    /// `β2^(batch / first)`: the memory is so many tokens.
    ///
    /// # Source
    ///
    /// Marek et al. 2025 (arXiv 2507.07101): hold the half-life of the second moment fixed in
    /// tokens. To first order in `1 − β2` it is the rule of Malladi et al. 2022.
    ConstantHalfLife,
}

/// How weight decay follows the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightDecayCoupling {
    /// It does not: weights forget in so many steps, at a fixed rate.
    #[default]
    None,
    /// `λ · (batch / first) / (rate / first rate)`: weights forget in so many tokens.
    ///
    /// # Source
    ///
    /// Bergsma et al. 2025 (arXiv 2505.13738): the time scale of AdamW's average over the data,
    /// `batch / (rate · λ · tokens)`, should stay; at a fixed rate `λ` grows with the batch.
    ConstantTimescale,
}

/// What follows the batch, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coupling {
    /// The learning rate.
    pub learning_rate: LearningRateCoupling,
    /// The decay of the second moment.
    pub beta2: Beta2Coupling,
    /// Weight decay.
    pub weight_decay: WeightDecayCoupling,
}

/// By what the optimizer's constants change; all ones at the run's first batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Factors {
    /// Multiplies the learning rate.
    pub learning_rate: f64,
    /// The power that `β2` is raised to.
    pub beta2_exponent: f64,
    /// Multiplies weight decay.
    pub weight_decay: f64,
}

impl Factors {
    /// Nothing changes.
    pub const ONE: Self = Self { learning_rate: 1.0, beta2_exponent: 1.0, weight_decay: 1.0 };
}

impl LearningRateCoupling {
    /// The power of the batch that the rate goes with.
    #[must_use]
    pub fn exponent(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Sqrt => 0.5,
            Self::Linear => 1.0,
        }
    }

    /// By what the rate changes when the batch grows `times`.
    #[must_use]
    pub fn factor(self, times: f64) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Sqrt => times.sqrt(),
            Self::Linear => times,
        }
    }
}

impl Coupling {
    /// The factors at a batch: a pure function of it and the run's first batch.
    #[must_use]
    pub fn factors(self, batch: u64, first: u64) -> Factors {
        let times = batch as f64 / first as f64;
        let learning_rate = self.learning_rate.factor(times);
        Factors {
            learning_rate,
            beta2_exponent: match self.beta2 {
                Beta2Coupling::None => 1.0,
                Beta2Coupling::ConstantHalfLife => times,
            },
            weight_decay: match self.weight_decay {
                WeightDecayCoupling::None => 1.0,
                WeightDecayCoupling::ConstantTimescale => times / learning_rate,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Coupling = Coupling {
        learning_rate: LearningRateCoupling::Sqrt,
        beta2: Beta2Coupling::ConstantHalfLife,
        weight_decay: WeightDecayCoupling::ConstantTimescale,
    };

    #[test]
    fn nothing_is_coupled_by_default_and_nothing_changes_at_the_first_batch() {
        assert_eq!(Coupling::default().factors(64, 8), Factors::ONE);
        assert_eq!(ALL.factors(8, 8), Factors::ONE);
    }

    #[test]
    fn factors_are_those_of_the_sources() {
        let factors = ALL.factors(32, 8);
        let expected = Factors { learning_rate: 2.0, beta2_exponent: 4.0, weight_decay: 2.0 };
        assert_eq!(factors, expected);
        let linear = Coupling { learning_rate: LearningRateCoupling::Linear, ..ALL };
        assert_eq!(linear.factors(24, 8).learning_rate, 3.0);
        assert_eq!(linear.factors(24, 8).weight_decay, 1.0);
    }

    proptest! {
        #[test]
        fn memories_in_tokens_stay(
            batch in 1u64..4096,
            first in 1u64..4096,
            beta2 in 0.5f64..0.9999,
            rate in prop::sample::select(vec![
                LearningRateCoupling::None, LearningRateCoupling::Sqrt, LearningRateCoupling::Linear,
            ]),
        ) {
            let factors = Coupling { learning_rate: rate, ..ALL }.factors(batch, first);
            let half_life = |beta: f64, batch: u64| batch as f64 * 0.5f64.ln() / beta.ln();
            let coupled = half_life(beta2.powf(factors.beta2_exponent), batch);
            // A power of a number near zero rounds to zero, and then nothing can be compared.
            if beta2.powf(factors.beta2_exponent) > 1e-300 {
                prop_assert!((coupled / half_life(beta2, first) - 1.0).abs() < 1e-9);
            }
            let timescale = batch as f64 / (factors.learning_rate * factors.weight_decay);
            prop_assert!((timescale / first as f64 - 1.0).abs() < 1e-12);
        }
    }
}
