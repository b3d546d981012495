//! Rotations, the gate and AdamW.

use burn::tensor::Tensor;
use terrace_kernels::device::{gate, gate_backward, rotate};
use terrace_kernels::{AdamW, Moments, adamw_step};

use crate::{close, host, pair};

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

#[test]
fn an_update_is_that_of_the_processor() {
    let constants = AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        beta2_product: 0.95f64.powi(3),
    };
    for shape in [[1, 1], [7, 13], [300, 257]] {
        let [[p, p_], [g, g_], [m, m_], [v, v_]] = [1, 2, 3, 4].map(|seed| pair(shape, seed));
        let step = |p: &Tensor<2>, g, first, second: Tensor<2>| {
            let moments = Moments { first, second: second.square() };
            adamw_step(p.clone(), g, 0.5, moments, constants)
        };
        let expected = step(&p, g, m, v);
        let found = step(&p_, g_, m_, v_);
        close(found.0, expected.0, 1e-5, &format!("parameter, {shape:?}"));
        close(found.1.first, expected.1.first, 1e-6, &format!("mean, {shape:?}"));
        close(found.1.second, expected.1.second, 1e-6, &format!("square, {shape:?}"));
        assert_eq!(host(p_), host(p), "what others hold does not change");
    }
}
