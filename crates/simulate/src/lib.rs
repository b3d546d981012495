//! Batch schedules on a model of training whose best schedule is known in closed form.
//!
//! The [noisy quadratic](Quadratic) is the smallest model in which growing the batch at a fixed
//! learning rate pays: gradient noise holds the loss above a floor that falls with the batch. On it
//! the same [controller](terrace_policy::batch::BatchController) that trains is run on noisy losses,
//! beside fixed batches, the [oracle](closed_form::oracle), and rules that know more than it does.
//! [`alarms`] asks the other question: how often, and how late, a plateau test fires.

pub mod alarms;
pub mod closed_form;
mod quadratic;
mod rules;
mod seeds;
mod stages;

pub use quadratic::{Position, Quadratic, StepRule};
pub use rules::{Declared, Fixed, GnsLinear, GnsSqrt, RelativeDrop, Rule, Seen, Walk, walk};
pub use seeds::{Controlled, Distribution, PlateauRun, controlled};
pub use stages::{SourceOptimum, Stage, StagePoint, Story, tell};
