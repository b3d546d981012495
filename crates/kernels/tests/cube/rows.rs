//! Norms and the cross entropy.

use burn::tensor::{DType, Device, Tensor};
use terrace_kernels::device::{norm_apply, norm_backward, norm_forward};
use terrace_kernels::{linear_cross_entropy, rms_norm_backward};

use crate::{close, device, host, integers, pair};

#[test]
fn norms_are_those_of_the_composed_form() {
    for shape @ [rows, d] in [[1, 1], [3, 5], [70, 48], [129, 300], [2, 1031]] {
        let name = format!("{shape:?}");
        let ([x, x_], [w, w_]) = (pair(shape, 1), pair([1, d], 2));
        let ([up, up_], [residual, residual_]) = (pair(shape, 3), pair(shape, 4));
        let (y, scales) = norm_forward(x.clone(), w.clone(), 1e-5, DType::F32);
        let (y_, scales_) = norm_forward(x_.clone(), w_.clone(), 1e-5, DType::F32);
        assert_eq!(scales.dims(), [rows]);
        close(y_, y.clone(), 1e-5, &name);
        close(scales_.clone(), scales.clone(), 1e-5, &name);
        close(norm_apply(x_.clone(), w_.clone(), scales_.clone(), DType::F32), y, 1e-5, &name);

        let expected =
            norm_backward(x.clone(), w.clone(), scales.clone(), up.clone(), Some(residual));
        let kept = residual_.clone();
        let found =
            norm_backward(x_.clone(), w_.clone(), scales_, up_.clone(), Some(residual_.clone()));
        close(found.0, expected.0, 1e-5, &name);
        close(found.1, expected.1, 1e-5, &name);
        // What others hold does not change.
        assert_eq!(host(kept), host(pair(shape, 4)[0].clone()));

        let alone = norm_backward(x, w.clone(), scales, up, None);
        let found = rms_norm_backward(x_, w_, 1e-5, up_);
        close(found.0, alone.0, 1e-5, &name);
        close(found.1, alone.1, 1e-5, &name);
    }
}

#[test]
fn the_slope_of_a_norm_is_that_of_its_definition() {
    let shape = [2, 6];
    let ([x, x_], [w, w_], [up, up_]) = (pair(shape, 5), pair([1, 6], 6), pair(shape, 7));
    let (dx, dw) = rms_norm_backward(x_, w_, 1e-5, up_);
    let exact: Vec<Vec<f64>> =
        [x, w, up].map(|x| host(x).into_iter().map(f64::from).collect()).into();
    let objective = |x: &[f64], w: &[f64]| {
        let rows = x.chunks(6).zip(exact[2].chunks(6));
        rows.map(|(x, up)| {
            let square = x.iter().map(|x| x * x).sum::<f64>() / 6.0;
            let normed = x.iter().zip(w).map(|(x, w)| x * w / (square + 1e-5).sqrt());
            normed.zip(up).map(|(y, up)| y * up).sum::<f64>()
        })
        .sum::<f64>()
    };
    for (which, found) in [host(dx), host(dw)].iter().enumerate() {
        for place in 0..found.len() {
            let moved = |by: f64| {
                let mut moved = exact.clone();
                moved[which][place] += by;
                objective(&moved[0], &moved[1])
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((f64::from(found[place]) - slope).abs() < 2e-5, "{which} {place}: {slope}");
        }
    }
}

#[test]
fn the_cross_entropy_is_that_of_the_composed_form() {
    for [rows, d, v, chunk] in [[1, 4, 1, 1], [5, 3, 7, 2], [9, 8, 256, 9], [7, 16, 1003, 4]] {
        let name = format!("{rows} rows of {v}");
        let ([x, x_], [w, w_]) = (pair([rows, d], 1), pair([v, d], 2));
        let (w, w_) = (w * 4.0, w_ * 4.0);
        let targets: Vec<i32> = (0..rows).map(|i| (i * 37 % v) as i32).collect();
        let mask: Vec<f32> = (0..rows).map(|i| f32::from(u8::from(i % 3 != 1))).collect();
        let run = |x: &Tensor<2>, w: &Tensor<2>, device: &Device, with_gradients| {
            let mask = Tensor::<1>::from_floats(mask.as_slice(), device);
            let (x, w) = (x.clone(), w.clone());
            linear_cross_entropy(x, w, integers(&targets, device), mask, chunk, with_gradients)
        };
        let expected = run(&x, &w, &Device::flex(), true);
        let found = run(&x_, &w_, &device(), true);
        close(found.nats, expected.nats.clone(), 1e-5, &name);
        let (found, gradients) = (found.gradients.unwrap(), expected.gradients.unwrap());
        close(found.hidden, gradients.hidden, 1e-5, &name);
        close(found.weight, gradients.weight, 1e-5, &name);
        let alone = run(&x_, &w_, &device(), false);
        assert!(alone.gradients.is_none());
        close(alone.nats, expected.nats, 1e-5, &name);
    }
}

#[test]
fn a_logit_that_is_no_number_shows_in_the_nats() {
    let x = Tensor::<2>::from_floats([[f32::NAN, 1.0]], &device());
    let w = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device());
    let mask = Tensor::<1>::from_floats([1.0], &device());
    let loss = linear_cross_entropy(x, w, integers(&[1], &device()), mask, 8, true);
    assert!(!host(loss.nats)[0].is_finite());
}
