//! AdamW on a parameter and moments in any of their formats.

use cubecl::prelude::*;

use super::UNITS;
use super::reduce::{Reduction, reduce_units};

/// The constants of an update, worked out by the host.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct UpdateConstants {
    pub(crate) gradient_scale: f32,
    pub(crate) beta1: f32,
    pub(crate) rest1: f32,
    pub(crate) beta2: f32,
    pub(crate) rest2: f32,
    pub(crate) decay: f32,
    pub(crate) rate: f32,
    pub(crate) root_scale: f32,
    pub(crate) epsilon: f32,
    /// The lower and the upper half of the key of the random bits.
    pub(crate) key_low: u32,
    pub(crate) key_high: u32,
}

/// One element after an update.
#[derive(CubeType)]
struct Element {
    parameter: f32,
    first: f32,
    second: f32,
}

#[cube]
fn update(parameter: f32, gradient: f32, first: f32, second: f32, c: &UpdateConstants) -> Element {
    let g = gradient * c.gradient_scale;
    let m = first * c.beta1 + g * c.rest1;
    let v = second * c.beta2 + g * g * c.rest2;
    let root = v.sqrt() * c.root_scale + c.epsilon;
    Element { parameter: parameter * c.decay - m * c.rate / root, first: m, second: v }
}

// PARITY: `host::RoundingKey::bits`.
#[cube]
fn scramble(word: u32) -> u32 {
    let x = (word ^ (word >> 16u32)) * 0x7feb_352du32;
    let x = (x ^ (x >> 15u32)) * 0x846c_a68bu32;
    x ^ (x >> 16u32)
}

/// Rounds to a number that the upper half of single precision has.
// PARITY: `host::rounding::round`.
#[cube]
fn rounded(value: f32, bits: u32) -> f32 {
    let word = u32::reinterpret(value);
    let is_finite = (word & 0x7f80_0000u32) != 0x7f80_0000u32;
    let moved = f32::reinterpret((word + bits) & 0xffff_0000u32);
    select(is_finite, moved, value)
}

/// Floats for parameter and moments; what is bf16 is rounded stochastically.
#[cube(launch_unchecked)]
pub(crate) fn adamw_floats_kernel<P: Float, M: Float>(
    parameter: &mut Tensor<P>,
    gradient: &Tensor<f32>,
    first: &mut Tensor<M>,
    second: &mut Tensor<M>,
    total: usize,
    constants: UpdateConstants,
    #[comptime] round_parameter: bool,
    #[comptime] round_moments: bool,
    #[define(P, M)] _elements: [ElemType; 2],
) {
    if ABSOLUTE_POS < total {
        let i = ABSOLUTE_POS;
        let p = f32::cast_from(parameter[i]);
        let (m, v) = (f32::cast_from(first[i]), f32::cast_from(second[i]));
        let new = update(p, gradient[i], m, v, &constants);
        let one = scramble(scramble(u32::cast_from(i) + constants.key_low) ^ constants.key_high);
        if comptime!(round_parameter) {
            parameter[i] = P::cast_from(rounded(new.parameter, one >> 16u32));
        } else {
            parameter[i] = P::cast_from(new.parameter);
        }
        if comptime!(round_moments) {
            let other = scramble(one ^ 0x9e37_79b9u32);
            first[i] = M::cast_from(rounded(new.first, one & 0xffffu32));
            second[i] = M::cast_from(rounded(new.second, other >> 16u32));
        } else {
            first[i] = M::cast_from(new.first);
            second[i] = M::cast_from(new.second);
        }
    }
}

/// The code of the nearest number of the table whose thresholds begin at `start`.
// PARITY: `host::CodeTable::encode`.
#[cube]
fn encode(value: f32, tables: &Tensor<f32>, start: usize) -> u32 {
    let mut code = 0usize.runtime();
    let mut step = 128usize.runtime();
    while step > 0 {
        let next = code + step;
        if value > tables[start + next - 1] {
            code = next;
        }
        step /= 2;
    }
    u32::cast_from(code)
}

/// Where the parts of `tables` begin: numbers and thresholds of the signed table, then of the other.
const SIGNED: usize = 0;
const SIGNED_THRESHOLDS: usize = 256;
const UNSIGNED: usize = 512;
const UNSIGNED_THRESHOLDS: usize = 768;

/// A moment's new scale, and each unit's code in the place of its value.
#[cube]
fn write_block(
    value: f32,
    words: &mut Tensor<u32>,
    scales: &mut Tensor<f32>,
    tables: &Tensor<f32>,
    parts: &mut [f32],
    codes: &mut [u32],
    #[comptime] is_signed: bool,
) {
    let unit = UNIT_POS as usize;
    let block = CUBE_POS as usize;
    let scale = reduce_units(value.abs(), parts, Reduction::Largest);
    // Below this its reciprocal is not finite.
    let counts = scale >= f32::MIN_POSITIVE;
    let scaled = select(counts, value / scale, 0.0f32);
    if comptime!(is_signed) {
        codes[unit] = encode(scaled, tables, SIGNED_THRESHOLDS);
    } else {
        // What is above zero never becomes zero.
        let least = select(scaled > 0.0f32, 1u32, 0u32);
        codes[unit] = max(encode(scaled, tables, UNSIGNED_THRESHOLDS), least);
    }
    sync_cube();
    if unit < comptime!(UNITS / 4) {
        words[block * comptime!(UNITS / 4) + unit] = codes[4 * unit]
            | (codes[4 * unit + 1] << 8u32)
            | (codes[4 * unit + 2] << 16u32)
            | (codes[4 * unit + 3] << 24u32);
    }
    if unit == 0 {
        scales[block] = select(counts, scale, 0.0f32);
    }
    sync_cube();
}

/// Codes for the moments, a cube for each block of them.
#[cube(launch_unchecked)]
pub(crate) fn adamw_codes_kernel<P: Float>(
    parameter: &mut Tensor<P>,
    gradient: &Tensor<f32>,
    first: &mut Tensor<u32>,
    first_scales: &mut Tensor<f32>,
    second: &mut Tensor<u32>,
    second_scales: &mut Tensor<f32>,
    tables: &Tensor<f32>,
    total: usize,
    blocks: usize,
    constants: UpdateConstants,
    #[comptime] round_parameter: bool,
    #[define(P)] _element: ElemType,
) {
    let unit = UNIT_POS as usize;
    let block = CUBE_POS as usize;
    if block < blocks {
        let mut parts = Shared::<[f32]>::new_slice(UNITS);
        let mut codes = Shared::<[u32]>::new_slice(UNITS);
        let i = block * UNITS + unit;
        let word = block * comptime!(UNITS / 4) + unit / 4;
        let shift = u32::cast_from(8 * (unit % 4));
        let mut m = 0.0f32.runtime();
        let mut v = 0.0f32.runtime();
        if i < total {
            let code = usize::cast_from((first[word] >> shift) & 0xffu32);
            m = tables[SIGNED + code] * first_scales[block];
            let code = usize::cast_from((second[word] >> shift) & 0xffu32);
            v = tables[UNSIGNED + code] * second_scales[block];
            let new = update(f32::cast_from(parameter[i]), gradient[i], m, v, &constants);
            if comptime!(round_parameter) {
                let low = scramble(u32::cast_from(i) + constants.key_low);
                let bits = scramble(low ^ constants.key_high) >> 16u32;
                parameter[i] = P::cast_from(rounded(new.parameter, bits));
            } else {
                parameter[i] = P::cast_from(new.parameter);
            }
            m = new.first;
            v = new.second;
        }
        write_block(m, first, first_scales, tables, &mut parts, &mut codes, true);
        write_block(v, second, second_scales, tables, &mut parts, &mut codes, false);
    }
}
