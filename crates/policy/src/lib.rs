//! Every decision of a run that needs neither tensor nor file: the order of the data, the learning
//! rate, the batch, what becomes of a loss spike, when to save and what to keep, which layers a deeper
//! model repeats.
//!
//! Nothing here knows a clock, a thread, a device or global randomness: what is decided is a pure
//! function of what was planned, what was measured and what was decided before.

pub mod batch;
pub mod cadence;
pub mod layer_map;
pub mod learning_rate;
pub mod mixture;
pub mod probe;
pub mod spike;
