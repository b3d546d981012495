//! The spikes section: what counts as a loss spike, and what is done about it.

use serde::{Deserialize, Serialize};
use terrace_policy::spike::{SpikePolicy, SpikeSettings};

/// What counts as a loss spike, and what is done about it.
///
/// # Source
///
/// `policy::spike` holds detector and decisions; here are their parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spikes {
    /// What is done.
    pub policy: SpikePolicy,
    /// A step spikes when its loss, or the logarithm of its gradient norm, is so many robust
    /// standard deviations above the median.
    pub threshold: f64,
    /// The number of steps that the median looks back over.
    pub window_steps: usize,
    /// A loss must also be so many nats above the median.
    pub minimum_nats: f64,
    /// The number of spiking steps in a row after which the run goes back.
    pub rewind_after_steps: u32,
    /// The number of steps before the first spiking one whose data is passed over too.
    pub lead_steps: usize,
    /// How often the run may go back before it stops.
    pub max_rewinds: u32,
}

impl Spikes {
    /// The section as the detector reads it.
    #[must_use]
    pub fn settings(&self) -> SpikeSettings {
        SpikeSettings {
            policy: self.policy,
            threshold: self.threshold,
            window_steps: self.window_steps,
            minimum_nats: self.minimum_nats,
            rewind_after_steps: self.rewind_after_steps,
            lead_steps: self.lead_steps,
            max_rewinds: self.max_rewinds,
        }
    }
}

impl Default for Spikes {
    fn default() -> Self {
        let settings = SpikeSettings::default();
        Self {
            policy: settings.policy,
            threshold: settings.threshold,
            window_steps: settings.window_steps,
            minimum_nats: settings.minimum_nats,
            rewind_after_steps: settings.rewind_after_steps,
            lead_steps: settings.lead_steps,
            max_rewinds: settings.max_rewinds,
        }
    }
}
