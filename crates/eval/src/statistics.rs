//! What scores say, and what the difference of two scores says: pure functions.

mod estimate;
pub(crate) mod paired;

pub use estimate::{mean, pass_at_k, pooled_standard_error, ratio, standard_error};
pub use paired::{
    Bootstrap, Flips, McNemar, McNemarTest, bootstrap, flips, mcnemar, minimum_detectable_effect,
};
