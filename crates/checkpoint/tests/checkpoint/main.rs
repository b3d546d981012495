//! Saving, damaging and resuming: what a run relies on.

mod adopt;
mod damage;
mod kill;
mod refusal;
mod round_trip;
mod support;
