//! Few rows times eight-bit weights: what decoding waits for.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::{Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::Plane;
use cubecl::prelude::*;

use super::kernel::{CHUNK, PLANES, TILE, int8_rows_kernel};
use crate::host::INT8_BLOCK;

/// Up to as many rows the kernel is used. Each eight rows read the integers once, and a weight costs
/// about three instructions and one for each row, so that eight rows of a step are near the limit of
/// both the memory and the arithmetic. To write the matrix as bf16 and read it again costs five
/// times its bytes, and then the product is for nothing: beyond three readings that is less.
const MOST_ROWS: usize = 24;

/// The rows of one launch.
const LAUNCH_ROWS: usize = 8;

/// Whether the kernel can take these rows and the matrix `[out, in]`.
pub(crate) fn serves(x: &Tensor<2>, [_, inputs]: [usize; 2]) -> bool {
    let device = x.device();
    let DispatchDevice::Cube(device) = device.as_dispatch() else { return false };
    if x.dims()[0] > MOST_ROWS || !inputs.is_multiple_of(INT8_BLOCK) {
        return false;
    }
    let client = device.client();
    let properties = client.properties();
    let hardware = &properties.hardware;
    properties.features.plane.contains(Plane::Ops)
        && hardware.plane_size_min == hardware.plane_size_max
}

/// Multiplies rows by the transposed matrix, `[rows, in]` to `[rows, out]`.
pub(crate) fn int8_rows(x: Tensor<2>, words: Tensor<4, Int>, scales: Tensor<4>) -> Tensor<2> {
    let (x, words, scales) = (x.into_dispatch(), words.into_dispatch(), scales.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Int8Rows>::int8_rows(x, words, scales))
}

/// The backends that have the kernel.
#[backend_extension(Cube, Fusion)]
pub(crate) trait Int8Rows: Backend {
    /// `x` `[rows, in]`, `words` `[out, blocks, 8, 1]` and `scales` `[out, blocks, 1, 1]` as
    /// [`Int8Tensor`](crate::Int8Tensor) has them; gives `[rows, out]`.
    #[fusion(dtype = x, shape = Shape::new([x[0], words[0]]))]
    fn int8_rows(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        scales: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Int8Rows for CubeBackend {
    fn int8_rows(x: CubeTensor, words: CubeTensor, scales: CubeTensor) -> CubeTensor {
        let [x, words, scales] = [x, words, scales].map(into_contiguous);
        let [rows, inputs] = x.meta.shape().dims();
        let outputs = words.meta.shape()[0];
        let client = x.client.clone();
        let handle = client.empty(rows * outputs * x.dtype.size());
        let y = CubeTensor::new_contiguous(
            client.clone(),
            x.device.clone(),
            Shape::new([rows, outputs]),
            handle,
            x.dtype,
        );
        let planes = (outputs.div_ceil(TILE) as u32).div_ceil(PLANES);
        let plane_size = client.properties().hardware.plane_size_max;
        let elements = [x.dtype, scales.dtype].map(burn::backend::cubecl::dtype_to_storage_type);
        for first in (0..rows).step_by(LAUNCH_ROWS) {
            #[expect(unsafe_code, reason = "the kernel is launched without checks of bounds")]
            // SAFETY: the kernel reads `x` at rows `first..first + count`, the matrix at outputs
            // below `outputs`, all at chunks below `inputs / CHUNK`, and writes such rows and
            // outputs of `y`; the tensors are contiguous and of these extents.
            unsafe {
                int8_rows_kernel::launch_unchecked(
                    &client,
                    CubeCount::Static(planes, 1, 1),
                    CubeDim::new_2d(plane_size, PLANES),
                    x.clone().into_tensor_arg(),
                    words.clone().into_tensor_arg(),
                    scales.clone().into_tensor_arg(),
                    y.clone().into_tensor_arg(),
                    first,
                    outputs,
                    inputs / CHUNK,
                    LAUNCH_ROWS.min(rows - first),
                    elements,
                );
            }
        }
        y
    }
}
