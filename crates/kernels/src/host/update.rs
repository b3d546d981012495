//! The optimizer's passes over whole tensors.

use rayon::prelude::*;
use tracing::trace_span;

use super::PIECE_ELEMENTS;
use super::codes::CODE_BLOCK;
use super::rounding::Bits;
use super::simd::{LANES, simd, sum_lanes};
use super::stored::Stored;
use crate::AdamW;

/// One AdamW update in place: parameter and both moments in one pass.
pub(crate) fn adamw(
    parameter: &mut [f32],
    gradient: &[f32],
    gradient_scale: f64,
    moments: [&mut [f32]; 2],
    constants: AdamW,
) {
    let _adamw = trace_span!("adamw").entered();
    let factors = Factors::new(constants, gradient_scale);
    let [first, second] = moments;
    assert_eq!([gradient.len(), first.len(), second.len()], [parameter.len(); 3]);
    parameter
        .par_chunks_mut(PIECE_ELEMENTS)
        .zip(gradient.par_chunks(PIECE_ELEMENTS))
        .zip(first.par_chunks_mut(PIECE_ELEMENTS).zip(second.par_chunks_mut(PIECE_ELEMENTS)))
        .for_each(|((parameter, gradient), (first, second))| {
            update(parameter, gradient, first, second, factors);
        });
}

/// The same for a parameter and moments that are kept in other formats: computed in f32, a block at a
/// time, then rounded.
pub(crate) fn adamw_rounded(
    parameter: Stored<'_>,
    gradient: &[f32],
    gradient_scale: f64,
    [first, second]: [Stored<'_>; 2],
    constants: AdamW,
) {
    const { assert!(PIECE_ELEMENTS.is_multiple_of(CODE_BLOCK), "pieces are whole blocks") };
    let _adamw = trace_span!("adamw").entered();
    assert!(u32::try_from(gradient.len()).is_ok(), "places are counted in 32 bits");
    let factors = Factors::new(constants, gradient_scale);
    let [parameter, first, second] = [parameter, first, second].map(Stored::pieces);
    let pieces = gradient.par_chunks(PIECE_ELEMENTS).enumerate().zip(parameter);
    pieces.zip(first.into_par_iter().zip(second)).for_each(
        |(((index, gradient), mut parameter), (mut first, mut second))| {
            for (block, gradient) in gradient.chunks(CODE_BLOCK).enumerate() {
                let [mut p, mut m, mut v] = [[0.0f32; CODE_BLOCK]; 3];
                let count = gradient.len();
                parameter.read(block, &mut p[..count]);
                first.read(block, &mut m[..count]);
                second.read(block, &mut v[..count]);
                update(&mut p[..count], gradient, &mut m[..count], &mut v[..count], factors);
                let place = index * PIECE_ELEMENTS + block * CODE_BLOCK;
                let bits = |i: usize| constants.rounding.bits((place + i) as u32);
                parameter.write(block, &p[..count], |i| Bits::parameter(bits(i)));
                first.write(block, &m[..count], |i| Bits::first(bits(i)));
                second.write(block, &v[..count], |i| Bits::second(bits(i)));
            }
        },
    );
}

/// The constants of an update, worked out in f64 and rounded once.
#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    beta1: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
    root_scale: f32,
    epsilon: f32,
    decay: f32,
    rate: f32,
}

impl Factors {
    fn new(constants: AdamW, gradient_scale: f64) -> Self {
        let AdamW {
            learning_rate, beta1, beta2, epsilon, weight_decay, step, beta2_product, ..
        } = constants;
        let correction1 = 1.0 - beta1.powf(step as f64);
        let correction2 = 1.0 - beta2_product;
        Self {
            gradient_scale: gradient_scale as f32,
            beta1: beta1 as f32,
            one_less_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_less_beta2: (1.0 - beta2) as f32,
            root_scale: (1.0 / correction2.sqrt()) as f32,
            epsilon: epsilon as f32,
            decay: (1.0 - learning_rate * weight_decay) as f32,
            rate: (learning_rate / correction1) as f32,
        }
    }
}

simd! {
    fn update(
        parameter: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        f: Factors,
    ) {
        let moments = first.iter_mut().zip(second);
        for ((p, g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
            let g = g * f.gradient_scale;
            *m = *m * f.beta1 + g * f.one_less_beta1;
            *v = *v * f.beta2 + g * g * f.one_less_beta2;
            let root = v.sqrt() * f.root_scale + f.epsilon;
            *p = *p * f.decay - *m * f.rate / root;
        }
    }
}

/// The sum of the squares of all elements.
///
// NUMERICS: in f32 within a piece and 16 lanes, in f64 over the pieces.
pub(crate) fn square_sum(values: &[f32]) -> f64 {
    let _square_sum = trace_span!("square_sum").entered();
    let parts: Vec<f32> = values.par_chunks(PIECE_ELEMENTS).map(squares).collect();
    parts.into_iter().map(f64::from).sum()
}

simd! {
    fn squares(values: &[f32]) -> f32 {
        let mut lanes = [0.0f32; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest: f32 = chunks.remainder().iter().map(|x| x * x).sum();
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] += chunk[i] * chunk[i];
            }
        }
        sum_lanes(lanes) + rest
    }
}
