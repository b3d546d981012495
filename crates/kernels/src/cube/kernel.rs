//! The kernel of [`int8_rows`](super::int8_rows).

#![allow(
    unsafe_code,
    reason = "the macro writes a launch without checks, which its caller answers for"
)]

use cubecl::prelude::*;

/// The outputs that a plane computes at a time: loads of different rows of weights are on their way
/// together, and what is read of `x` serves all of them.
pub(crate) const TILE: usize = 4;

/// The planes of a cube.
pub(crate) const PLANES: u32 = 4;

/// The weights that a unit takes at a time: four words, half of a block.
pub(crate) const CHUNK: usize = 16;

/// A plane computes `TILE` outputs of all rows of the launch; its units share the inputs, a chunk at a
/// time.
///
// NUMERICS: sums in f32: 16 products, times the block's scale, over a unit's chunks, over the units.
#[cube(launch_unchecked)]
pub(crate) fn int8_rows_kernel<X: Float, S: Float>(
    x: &Tensor<Vector<X, Const<4>>>,
    words: &Tensor<Vector<u32, Const<4>>>,
    scales: &Tensor<S>,
    y: &mut Tensor<X>,
    first_row: usize,
    outputs: usize,
    chunks: usize,
    #[comptime] rows: usize,
    #[define(X, S)] _elements: [ElemType; 2],
) {
    let unit = UNIT_POS_X as usize;
    let plane = CUBE_POS_X as usize * PLANES as usize + UNIT_POS_Y as usize;
    let first_output = plane * TILE;
    let mut sums = Array::<f32>::new(comptime!(TILE * rows));
    #[unroll]
    for i in 0..comptime!(TILE * rows) {
        sums[i] = 0.0f32;
    }
    let mut chunk = unit;
    while chunk < chunks {
        let mut weights = Array::<f32>::new(comptime!(TILE * CHUNK));
        let mut block_scales = Array::<f32>::new(TILE);
        #[unroll]
        for tile in 0..TILE {
            // Beyond the last output the last one is computed again, and not written.
            let output = min(first_output + tile, outputs - 1);
            let place = output * chunks + chunk;
            let packed = words[place];
            block_scales[tile] = f32::cast_from(scales[place / 2]);
            #[unroll]
            for word in 0..4usize {
                #[unroll]
                for byte in 0..4usize {
                    let bits = (packed.extract(word) >> comptime!(8 * byte as u32)) & 0xffu32;
                    // The bits of 2^23 + b, minus 2^23 + 128: a conversion by arithmetic.
                    weights[comptime!(tile * CHUNK + 4 * word + byte)] =
                        f32::reinterpret(bits | 0x4b00_0000u32) - 8_388_736.0f32;
                }
            }
        }
        #[unroll]
        for row in 0..rows {
            let mut products = Array::<f32>::new(TILE);
            #[unroll]
            for tile in 0..TILE {
                products[tile] = 0.0f32;
            }
            #[unroll]
            for word in 0..4usize {
                let inputs = x[((first_row + row) * chunks + chunk) * 4 + word];
                #[unroll]
                for byte in 0..4usize {
                    let input = f32::cast_from(inputs.extract(byte));
                    #[unroll]
                    for tile in 0..TILE {
                        products[tile] +=
                            weights[comptime!(tile * CHUNK + 4 * word + byte)] * input;
                    }
                }
            }
            #[unroll]
            for tile in 0..TILE {
                sums[comptime!(tile * rows + row)] += block_scales[tile] * products[tile];
            }
        }
        chunk += PLANE_DIM as usize;
    }
    #[unroll]
    for tile in 0..TILE {
        #[unroll]
        for row in 0..rows {
            let sum = plane_sum(sums[comptime!(tile * rows + row)]);
            let output = first_output + tile;
            if unit == 0 && output < outputs {
                y[(first_row + row) * outputs + output] = X::cast_from(sum);
            }
        }
    }
}
