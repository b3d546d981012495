//! Number formats that a device has, and what the release of gradients needs.

use terrace_policy::spike::SpikePolicy;

use super::Check;
use crate::node::KeyPath;
use crate::run::{GradientClipping, MomentFormat, Precision, RunConfig};

impl Check<'_> {
    pub(super) fn precision(&mut self, config: &RunConfig) {
        if !config.device.has_bf16() {
            let (precision, moments) = (config.training.precision, config.optimizer.moments);
            let asked_for = precision != Precision::F32;
            self.without_bf16("training.precision", precision.name(), asked_for);
            let asked_for = moments == MomentFormat::Bf16;
            self.without_bf16("optimizer.moments", moments.name(), asked_for);
        }
        if config.training.gradient_release {
            self.release(config);
        }
    }

    fn without_bf16(&mut self, key: &str, name: &str, is_asked_for: bool) {
        if is_asked_for {
            let message = format!("`{key}`: wgpu has no bf16, found {name:?}");
            let help = "write \"f32\", or device = \"cuda\"".to_owned();
            self.refuse_with_help(&KeyPath::new(key), message, help);
        }
    }

    /// A layer that is updated before the layers below have a gradient cannot wait for a norm of all
    /// of them, nor be left as it was when something turns out not to be finite.
    fn release(&mut self, config: &RunConfig) {
        let path = KeyPath::new("training.gradient_release");
        if config.training.gradient_clipping == GradientClipping::Global {
            self.refuse_with_help(
                &path,
                "`training.gradient_release` updates a layer before the norm of the whole gradient is \
                 known, and training.gradient_clipping = \"global\" scales by that norm",
                "write gradient_clipping = \"per-layer\", or \"previous-norm\"".to_owned(),
            );
        }
        if config.spikes.policy != SpikePolicy::Rewind {
            let message = format!(
                "`training.gradient_release` cannot take an update back, so that a loss or gradient that \
                 is not finite needs a saved state to go back to, and spikes.policy = {:?} keeps none",
                config.spikes.policy.name()
            );
            let help = "write policy = \"rewind\" in [spikes]".to_owned();
            self.refuse_with_help(&path, message, help);
        } else if config.spikes.rewind_after_steps != 1 {
            let message = format!(
                "`training.gradient_release` cannot withhold the update of a step that spikes, and \
                 spikes.rewind_after_steps = {} goes back for the last of so many",
                config.spikes.rewind_after_steps
            );
            let help = "write rewind_after_steps = 1 in [spikes]".to_owned();
            self.refuse_with_help(&path, message, help);
        }
    }
}
