//! Loss spikes: whether a step is one, and what is to become of it.
//!
//! [`Detector`] says how far out a step's loss and gradient norm are against the steps before;
//! [`SpikeWatch`] holds it, counts spiking steps in a row, and decides: apply the step, write it
//! down, leave the model as it is, or go back to before the spike and pass over the data that led
//! there. Going back itself is the trainer's.
//!
//! # Source
//!
//! PaLM (Chowdhery et al. 2022, arXiv 2204.02311, §5.1) went back about 100 steps before each spike
//! and passed over the 200 to 500 batches around it; the spikes did not come back, though the same
//! batches from another checkpoint did no harm. OLMo-core leaves out single updates whose loss or
//! gradient norm is more than 6 standard deviations above the last 128; here the median and the
//! median absolute deviation stand in for mean and deviation, so that one spike does not hide the
//! next.

mod detector;
mod settings;
mod watch;

pub use detector::{Detector, Signal, SpikeEvidence};
pub use settings::{SpikePolicy, SpikeSettings};
pub use watch::{Action, Rewind, SpikeWatch, StepLoss, Verdict};

#[cfg(test)]
mod tests;
