//! What the units of a cube find together.

use cubecl::prelude::*;

use super::UNITS;

/// What becomes of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reduction {
    Sum,
    Largest,
}

/// The sum, or the largest, of a value of each unit of the cube, the same for all of them.
///
/// Every unit of the cube calls it; it begins where all may write `parts` again.
///
// NUMERICS: in a fixed order.
#[cube]
pub(super) fn reduce_units(value: f32, parts: &mut [f32], #[comptime] how: Reduction) -> f32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    parts[unit] = value;
    sync_cube();
    let mut distance = comptime!(UNITS / 2).runtime();
    while distance > 0 {
        if unit < distance {
            if comptime!(how == Reduction::Sum) {
                parts[unit] = parts[unit] + parts[unit + distance];
            } else {
                parts[unit] = max(parts[unit], parts[unit + distance]);
            }
        }
        sync_cube();
        distance /= 2;
    }
    parts[0]
}
