//! What of a trained function is changed when the model is made deeper.

use terrace_config::Architecture;

use super::Error;

/// Settings of a model that are kept unless they are given here.
///
/// Each changes what trained weights compute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    /// The base of the rotary angles.
    pub rope_theta: Option<f64>,
    /// What is added to the mean square in a norm.
    pub rms_norm_eps: Option<f64>,
    /// The longest sequence the model is made for.
    pub max_position_embeddings: Option<u64>,
}

impl Overrides {
    pub(super) fn apply(&self, base: &Architecture, layers: usize) -> Result<Architecture, Error> {
        let positive = |setting, value: Option<f64>, kept: f64| match value {
            None => Ok(kept),
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => Err(Error::Override {
                setting,
                found: value.to_string(),
                expected: "a finite number above zero",
            }),
        };
        if self.max_position_embeddings == Some(0) {
            return Err(Error::Override {
                setting: "max_position_embeddings",
                found: "0".to_owned(),
                expected: "at least 1",
            });
        }
        Ok(Architecture {
            num_hidden_layers: layers as u64,
            rope_theta: positive("rope_theta", self.rope_theta, base.rope_theta)?,
            rms_norm_eps: positive("rms_norm_eps", self.rms_norm_eps, base.rms_norm_eps)?,
            max_position_embeddings: self
                .max_position_embeddings
                .unwrap_or(base.max_position_embeddings),
            ..base.clone()
        })
    }
}
