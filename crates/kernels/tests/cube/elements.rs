//! Rotations, the gate and AdamW.

use burn::tensor::{DType, Tensor};
use terrace_kernels::device::{gate, gate_backward, rotate};
use terrace_kernels::host::RoundingKey;
use terrace_kernels::{AdamW, MomentFormat, Moments, adamw_step};

use crate::{close, device, host, pair};

#[test]
fn rotations_are_those_of_the_composed_form_and_turn_back() {
    for [rows, heads, half] in [[1, 1, 1], [7, 3, 4], [130, 2, 32]] {
        let shape = [rows, heads * 2 * half];
        let [x, x_] = pair(shape, 1);
        let [angles, _] = pair([rows, half], 2);
        let [cos, sin] = [angles.clone().cos(), angles.sin()];
        let [cos_, sin_] = [&cos, &sin].map(|x| x.clone().to_device(&x_.device()));
        for back in [false, true] {
            let expected = rotate(x.clone(), cos.clone(), sin.clone(), back);
            let found = rotate(x_.clone(), cos_.clone(), sin_.clone(), back);
            close(found.clone(), expected, 1e-6, &format!("{shape:?}"));
            let again = rotate(found, cos_.clone(), sin_.clone(), !back);
            close(again, x.clone(), 1e-6, &format!("{shape:?} and back"));
        }
        assert_eq!(host(x_), host(x), "what others hold does not change");
    }
}

#[test]
fn the_gate_is_that_of_the_composed_form() {
    for shape in [[1, 1], [5, 13], [130, 257]] {
        let name = format!("{shape:?}");
        let ([g, g_], [u, u_], [up, up_]) = (pair(shape, 1), pair(shape, 2), pair(shape, 3));
        let (g, g_) = (g * 6.0, g_ * 6.0);
        let expected = gate(g.clone(), u.clone());
        close(gate(g_.clone(), u_.clone()), expected.clone(), 1e-6, &name);
        let held = (g_.clone(), u_.clone(), up_.clone());
        let expected = (gate_backward(g.clone(), u.clone(), up.clone()), expected);
        let found = gate_backward(g_, u_, up_);
        for (found, expected) in found.iter().zip(&expected.0) {
            close(found.clone(), expected.clone(), 1e-6, &name);
        }
        close(found[2].clone(), expected.1, 1e-6, &name);
        for (held, before) in [(held.0, g), (held.1, u), (held.2, up)] {
            close(held, before, 0.0, "what others hold does not change");
        }
    }
}

#[test]
fn the_gradients_of_the_gate_are_its_slopes() {
    let shape = [3, 5];
    let [[g, g_], [u, u_], [up, up_]] = [1, 2, 3].map(|seed| pair(shape, seed));
    let [d_gate, d_up, _] = gate_backward(g_, u_, up_).map(host);
    let [g, u, up] = [g, u, up].map(|x| host(x).into_iter().map(f64::from).collect::<Vec<_>>());
    let value = |g: f64, u: f64| g / (1.0 + (-g).exp()) * u;
    for i in 0..15 {
        let by_gate = (value(g[i] + 1e-5, u[i]) - value(g[i] - 1e-5, u[i])) / 2e-5 * up[i];
        let by_up = (value(g[i], u[i] + 1e-5) - value(g[i], u[i] - 1e-5)) / 2e-5 * up[i];
        assert!((f64::from(d_gate[i]) - by_gate).abs() < 1e-6, "{i}: {by_gate}");
        assert!((f64::from(d_up[i]) - by_up).abs() < 1e-6, "{i}: {by_up}");
    }
}

const CONSTANTS: AdamW = AdamW {
    learning_rate: 0.1,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.1,
    step: 3,
    beta2_product: 0.95 * 0.95 * 0.95,
    rounding: RoundingKey(0x0123_4567_89ab_cdef),
};

/// A parameter, a gradient, and moments in a format, on both devices.
fn states(shape: [usize; 2], format: MomentFormat) -> [(Tensor<2>, Tensor<2>, Moments); 2] {
    let (parameters, gradients, firsts) = (pair(shape, 1), pair(shape, 2), pair(shape, 3));
    let all = parameters.into_iter().zip(gradients).zip(firsts);
    let state = all.map(|((p, g), before)| {
        let zeros = Moments::zeros(shape, format, &p.device());
        // A first update that forgets all fills moments of any format.
        let still = AdamW { beta1: 0.0, beta2: 0.0, ..CONSTANTS };
        let (_, moments) = adamw_step(p.clone(), before, 1.0, zeros, still);
        (p, g, moments)
    });
    let all: Vec<_> = state.collect();
    all.try_into().expect("two devices")
}

#[test]
fn an_update_is_that_of_the_processor() {
    for shape in [[1, 1], [7, 13], [300, 257]] {
        for format in [MomentFormat::F32, MomentFormat::Int8] {
            let [(p, g, moments), (p_, g_, moments_)] = states(shape, format);
            let expected = adamw_step(p.clone(), g, 0.5, moments, CONSTANTS);
            let found = adamw_step(p_.clone(), g_, 0.5, moments_, CONSTANTS);
            let name = format!("{shape:?}, {format:?}");
            close(found.0, expected.0, 1e-5, &name);
            // A number that lies halfway between two of the table may fall to either side.
            let tolerances = match format.of_shape(shape) {
                MomentFormat::Int8 => [0.0143, 0.0072],
                _ => [1e-6, 1e-6],
            };
            let both = found.1.to_f32(shape).into_iter().zip(expected.1.to_f32(shape));
            for ((found, expected), tolerance) in both.zip(tolerances) {
                close(found.clone(), expected.clone(), tolerance, &name);
                let (found, expected) = (host(found), host(expected));
                let far = found.iter().zip(&expected).filter(|(a, b)| (*a - *b).abs() > 1e-6);
                assert!(far.count() * 1000 <= found.len(), "{name}: few lie halfway");
            }
            assert_eq!(host(p_), host(p), "what others hold does not change");
        }
    }
}

/// Where the device has bf16 (WebGPU has not).
#[test]
fn rounding_is_that_of_the_processor() {
    if !device().supports_dtype(DType::BF16) {
        return;
    }
    let shape = [64, 257];
    for format in [MomentFormat::Bf16, MomentFormat::Int8] {
        let [(p, g, moments), (p_, g_, moments_)] = states(shape, format);
        let expected = adamw_step(p.cast(DType::BF16), g, 0.5, moments, CONSTANTS).0;
        let found = adamw_step(p_.cast(DType::BF16), g_, 0.5, moments_, CONSTANTS).0;
        let (found, expected) = (host(found), host(expected));
        // The update itself is rounded in its last bit, which moves few across a step.
        let other = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert!(other * 100 <= found.len(), "{other} of {}", found.len());
    }
}
