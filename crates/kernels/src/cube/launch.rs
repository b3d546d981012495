//! What launches have in common.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::ir::HardwareProperties;
use cubecl::prelude::*;

use super::kernels::UNITS;

/// The tensors of the kernel with the most of them, and one for extents.
const MOST_BINDINGS: u32 = 10;

/// Cubes along the first axis of a launch: no device has a lower limit.
const MOST_CUBES: usize = 32_768;

/// Whether kernels run on a device: one of CubeCL's, without autodiff, with cubes large enough.
pub(crate) fn runs(device: &Device) -> bool {
    hardware(device).is_some_and(|hardware| {
        hardware.max_units_per_cube >= UNITS as u32 && hardware.max_bindings >= MOST_BINDINGS
    })
}

/// What is known of a device's hardware; None if it is not CubeCL's, or tracks gradients.
pub(super) fn hardware(device: &Device) -> Option<HardwareProperties> {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => Some(device.client().properties().hardware.clone()),
        _ => None,
    }
}

/// An element's type in the language of kernels.
pub(super) fn element(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// A tensor for a kernel to fill, beside `like`.
pub(super) fn empty<const D: usize>(
    like: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    let handle = client.empty(shape.iter().product::<usize>() * dtype.size());
    CubeTensor::new_contiguous(client, device, Shape::new(shape), handle, dtype)
}

/// A tensor's elements in rows for a kernel to change: its own memory, unless others hold it.
pub(super) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// A launch of `cubes` cubes at least: along two axes where one would be too long.
///
/// # Panics
///
/// There are more units than 32 bits count: kernels address elements with them.
pub(super) fn spread(cubes: usize) -> CubeCount {
    assert!(u32::try_from(cubes * UNITS).is_ok(), "kernels count elements in 32 bits");
    let across = cubes.clamp(1, MOST_CUBES);
    CubeCount::Static(across as u32, cubes.div_ceil(across).max(1) as u32, 1)
}

/// The same with a unit for each of `count` elements.
pub(super) fn spread_elements(count: usize) -> CubeCount {
    spread(count.div_ceil(UNITS))
}

/// The units of a cube.
pub(super) fn cube_dim() -> CubeDim {
    CubeDim::new_1d(UNITS as u32)
}
