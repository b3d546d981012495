//! Whether a run keeps the caps of its sources, decided when it is planned.

use super::error::{CapExcess, MixtureError};
use super::schedule::MixtureSchedule;

impl MixtureSchedule {
    /// Refuses a run that would exceed a cap, and says how long it may be.
    pub(super) fn check_caps(&self) -> Result<(), MixtureError> {
        let planned = self.sequences();
        let excesses = self.excesses(planned);
        if excesses.is_empty() {
            return Ok(());
        }
        // Quotas only grow, so the longest feasible beginning is found by bisection.
        let (mut feasible, mut infeasible) = (0, planned);
        while infeasible - feasible > 1 {
            let middle = feasible + (infeasible - feasible) / 2;
            if self.excesses(middle).is_empty() {
                feasible = middle;
            } else {
                infeasible = middle;
            }
        }
        Err(MixtureError::CapExceeded {
            excesses,
            planned_sequences: planned,
            largest_feasible_sequences: feasible,
        })
    }

    /// The sources that the first `sequences` sequences could draw beyond their caps.
    fn excesses(&self, sequences: u64) -> Vec<CapExcess> {
        let excess = |source: usize| {
            let edition = &self.sources[source];
            let max_windows = edition.max_windows?;
            let needed_windows = self.most_drawn(source, sequences);
            (needed_windows > max_windows).then(|| CapExcess {
                source: edition.name.clone(),
                needed_windows,
                max_windows,
            })
        };
        self.given_order().into_iter().filter_map(excess).collect()
    }

    /// The most windows of a source that the first `sequences` sequences can take.
    ///
    /// Tijdeman's rule stays within one of the quota, so at an integral quota it is exact and
    /// otherwise it draws at most the next integer.
    fn most_drawn(&self, source: usize, sequences: u64) -> u64 {
        let mut left = sequences;
        let drawn = self.rules.iter().map(|rule| {
            let here = left.min(rule.sequences);
            left -= here;
            rule.quota(source).map_or(0, |quota| quota.ceiling(here))
        });
        drawn.sum()
    }
}
