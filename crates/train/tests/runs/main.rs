//! Small runs from their file to their end, and what becomes of them when something goes wrong.

mod background;
mod bad_steps;
mod evaluations;
mod formats;
mod growth;
mod modes;
mod resume;
mod spikes;
mod upscaled;
mod world;
