//! Operations with their backward passes written out, on tensors of any device.
//!
//! On the devices that CubeCL knows, with the feature for it, they are kernels of our own; elsewhere they
//! are composed of the tensor library's, which is their oracle. The tensors carry no autodiff. For the
//! host's memory [`host`](crate::host) has the same on slices.

mod attention;
mod cross_entropy;
mod elements;
mod norm;

pub use attention::{DeviceDocuments, attention_backward, attention_forward};
pub use cross_entropy::cross_entropy_rows;
pub use elements::{gate, gate_backward, rotate};
pub use norm::{norm_apply, norm_backward, norm_forward};

use burn::tensor::Device;

/// Whether kernels of our own run on a device, for heads of this width.
#[cfg(feature = "cube")]
#[must_use]
pub fn has_kernels(device: &Device, head_dim: usize) -> bool {
    crate::cube::attends(device, head_dim)
}

/// Whether kernels of our own run on a device, for heads of this width.
#[cfg(not(feature = "cube"))]
#[must_use]
pub fn has_kernels(_device: &Device, _head_dim: usize) -> bool {
    false
}

/// Whether those kernels run that do not depend on a head's width.
#[cfg(feature = "cube")]
fn runs(device: &Device) -> bool {
    crate::cube::runs(device)
}

/// Runs a kernel where the device has it, else the form composed of the tensor library's operations.
macro_rules! kernel_or {
    ($runs:expr, $kernel:expr, $composed:expr) => {{
        #[cfg(feature = "cube")]
        if $runs {
            return $kernel;
        }
        $composed
    }};
}
use kernel_or;
