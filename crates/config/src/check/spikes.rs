//! What counts as a loss spike, and what is done about it.

use terrace_policy::spike::SpikePolicy;

use super::Check;
use crate::node::KeyPath;
use crate::run::RunConfig;

/// A quarter of the window has to be there before anything is judged.
const LEAST_WINDOW_STEPS: usize = 4;

impl Check<'_> {
    pub(super) fn spikes(&mut self, config: &RunConfig) {
        let spikes = &config.spikes;
        let path = |key: &str| KeyPath::new("spikes").child(key);
        self.above_zero(&path("threshold"), spikes.threshold);
        let nats = spikes.minimum_nats;
        self.number(&path("minimum_nats"), nats, "a number that is zero or more", nats >= 0.0);
        if spikes.window_steps < LEAST_WINDOW_STEPS {
            let message = format!(
                "`spikes.window_steps`: found {}, expected at least {LEAST_WINDOW_STEPS}",
                spikes.window_steps
            );
            self.refuse(&path("window_steps"), message);
        }
        self.at_least_one("spikes.rewind_after_steps", u64::from(spikes.rewind_after_steps));
        let last = config.training.max_consecutive_bad_steps;
        if spikes.policy == SpikePolicy::Rewind && spikes.rewind_after_steps > last {
            let message = format!(
                "`spikes.rewind_after_steps`: found {}, expected at most \
                 training.max_consecutive_bad_steps = {last}, after which the run stops",
                spikes.rewind_after_steps
            );
            self.refuse(&path("rewind_after_steps"), message);
        }
    }
}
