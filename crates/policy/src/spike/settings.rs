//! What counts as a spike, and what is done about it.

use serde::{Deserialize, Serialize};

/// What is done about a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpikePolicy {
    /// Nothing is looked for.
    Off,
    /// It is written down and its update is applied; the batch controller learns nothing from it.
    #[default]
    Record,
    /// Its update is not applied.
    Skip,
    /// Its update is not applied, and where several come in a row the run goes back to before the
    /// first of them and passes over their data.
    Rewind,
}

impl SpikePolicy {
    /// Whether a spiking step leaves the model as it is.
    #[must_use]
    pub fn withholds(self) -> bool {
        matches!(self, Self::Skip | Self::Rewind)
    }

    /// Its name in a run file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Record => "record",
            Self::Skip => "skip",
            Self::Rewind => "rewind",
        }
    }
}

/// What counts as a spike, and what is done about it.
///
/// It is the `[spikes]` section of a run file as it stands there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpikeSettings {
    /// What is done.
    pub policy: SpikePolicy,
    /// A step spikes when its loss, or the logarithm of its gradient norm, is so many robust
    /// standard deviations above the median.
    pub threshold: f64,
    /// The number of steps that the median looks back over; a quarter of them must be there.
    pub window_steps: usize,
    /// A loss must also be so many nats above the median: what is less does no harm, however quiet
    /// the steps before were.
    pub minimum_nats: f64,
    /// The number of spiking steps in a row after which the run goes back.
    pub rewind_after_steps: u32,
    /// The number of steps before the first spiking one whose data is passed over too: an update
    /// that does harm shows in the loss of the next step.
    pub lead_steps: usize,
    /// How often the run may go back before it stops.
    pub max_rewinds: u32,
}

impl Default for SpikeSettings {
    fn default() -> Self {
        Self {
            policy: SpikePolicy::Record,
            threshold: 6.0,
            window_steps: 128,
            minimum_nats: 0.1,
            rewind_after_steps: 3,
            lead_steps: 1,
            max_rewinds: 5,
        }
    }
}
