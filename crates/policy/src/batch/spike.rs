//! Which losses are too far out to learn a slope from.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Steps that the median looks back over: enough for a steady median, few enough to follow a trend.
const MEMORY: usize = 64;
/// Steps before anything is called a spike.
const LEAST: usize = 16;
/// The limits are renewed every so many steps, which makes a step cheap.
const RENEWAL: u64 = 16;
/// Median absolute deviations; four standard deviations of a normal variate.
const LIMIT: f64 = 6.0;

/// Flags losses that lie more than six median absolute deviations from the median of the last 64.
///
/// Spikes enter the median too, so that a level that stays is a level after 32 steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SpikeFilter {
    recent: VecDeque<f64>,
    limits: Option<(f64, f64)>,
    age: u64,
}

impl SpikeFilter {
    /// Takes in a loss and says whether it is a spike.
    pub(super) fn is_spike(&mut self, loss: f64) -> bool {
        let spike = self.limits.is_some_and(|(low, high)| loss < low || loss > high);
        if self.recent.len() == MEMORY {
            self.recent.pop_front();
        }
        self.recent.push_back(loss);
        self.age += 1;
        if self.age >= RENEWAL && self.recent.len() >= LEAST {
            self.age = 0;
            self.limits = limits(self.recent.iter().copied().collect());
        }
        spike
    }
}

fn limits(mut losses: Vec<f64>) -> Option<(f64, f64)> {
    let centre = median(&mut losses);
    losses.iter_mut().for_each(|loss| *loss = (*loss - centre).abs());
    let reach = LIMIT * median(&mut losses);
    // More than half of the losses are the same number: there is no scale to measure by.
    (reach > 0.0).then_some((centre - reach, centre + reach))
}

fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use terrace_base::Seed;

    use super::*;

    #[test]
    fn spikes_are_flagged_and_noise_is_not() {
        let noise = Seed(3).stream("spikes");
        let mut filter = SpikeFilter::default();
        let flagged =
            (0..20_000).filter(|i| filter.is_spike(2.0 + 0.01 * noise.normal(*i))).count();
        assert!(flagged < 40, "{flagged} of 20,000 normal losses");
        assert!(filter.is_spike(2.2));
        assert!(filter.is_spike(1.8));
        assert!(!filter.is_spike(2.0));
    }

    #[test]
    fn a_level_that_stays_is_a_level() {
        let noise = Seed(4).stream("levels");
        let mut filter = SpikeFilter::default();
        assert_eq!((0..100).filter(|i| filter.is_spike(2.0 + 0.01 * noise.normal(*i))).count(), 0);
        let flagged = (100..300).filter(|i| filter.is_spike(3.0 + 0.01 * noise.normal(*i))).count();
        assert!((1..=64).contains(&flagged), "{flagged}");
    }

    #[test]
    fn a_constant_loss_has_no_spikes() {
        let mut filter = SpikeFilter::default();
        assert!((0..100).all(|_| !filter.is_spike(1.5)));
        assert!(!filter.is_spike(1.6));
    }
}
