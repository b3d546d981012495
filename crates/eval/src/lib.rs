//! Tasks asked of a language model, scored, and compared item by item.
//!
//! [`run`] takes the tasks that [`terrace_config::load_task`] reads, asks a
//! [`LanguageModel`](terrace_completion::LanguageModel) what they say, and gives a [`Report`]; each item
//! is a line of the log as soon as it is scored, and what the log holds is not asked again. [`compare`]
//! sets two such logs side by side. Contexts and continuations are encoded, cut and scored as
//! lm-evaluation-harness 0.4.13 does it through its `local-completions` client.

mod ask;
mod compare;
mod csv;
mod encode;
mod error;
mod flipped;
mod items;
mod log;
mod prompt;
mod published;
mod record;
mod report;
mod request;
mod run;
pub mod sandbox;
mod score;
pub mod statistics;
mod template;

pub use compare::{Comparison, GroupComparison, TaskComparison, compare};
pub use error::{Error, Result};
pub use flipped::{Flip, flipped};
pub use log::read_log;
pub use prompt::{Ask, Item, prepare};
pub use published::{Means, PUBLISHED, PublishedRow};
pub use record::{Detail, ItemRecord, Outcome};
pub use report::{Estimate, Report, TaskReport};
pub use run::{Evaluation, Observer, Settings, run};
