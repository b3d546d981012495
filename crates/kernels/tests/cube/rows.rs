//! Norms and the cross entropy.

use burn::tensor::{DType, Tensor};
use terrace_kernels::device::{cross_entropy_rows, norm_apply, norm_backward, norm_forward};
use terrace_kernels::rms_norm_backward;

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

/// Logits straight to the kernel: a product before it would first be measured, which takes minutes on
/// software.
#[test]
fn the_cross_entropy_is_that_of_the_composed_form() {
    for shape @ [rows, v] in [[1, 1], [5, 7], [9, 256], [7, 1003]] {
        let name = format!("{rows} rows of {v}");
        let [logits, logits_] = pair(shape, 1).map(|x| x * 8.0);
        let targets: Vec<i32> = (0..rows).map(|i| (i * 37 % v) as i32).collect();
        let mask: Vec<f32> = (0..rows).map(|i| f32::from(u8::from(i % 3 != 1))).collect();
        let run = |logits: &Tensor<2>, with_gradients| {
            let device = logits.device();
            let mask = Tensor::<1>::from_floats(mask.as_slice(), &device);
            let targets = integers(&targets, &device);
            cross_entropy_rows(logits.clone(), targets, mask, with_gradients)
        };
        let (nats, slope) = run(&logits, true);
        let (nats_, slope_) = run(&logits_, true);
        close(nats_, nats.clone(), 1e-5, &name);
        close(slope_.unwrap(), slope.unwrap(), 1e-5, &name);
        assert_eq!(host(logits_.clone()), host(logits), "what others hold does not change");
        let (alone, slope) = run(&logits_, false);
        assert!(slope.is_none());
        close(alone, nats, 1e-5, &name);
    }
}

#[test]
fn the_slope_of_the_cross_entropy_is_that_of_its_definition() {
    let [logits, logits_] = pair([3, 5], 8).map(|x| x * 3.0);
    let targets = [4, 0, 2];
    let mask = Tensor::<1>::from_floats([1.0, 1.0, 0.0], &device());
    let (_, slope) = cross_entropy_rows(logits_, integers(&targets, &device()), mask, true);
    let exact: Vec<f64> = host(logits).into_iter().map(f64::from).collect();
    let objective = |logits: &[f64]| {
        let rows = logits.chunks(5).zip(targets).take(2);
        rows.map(|(z, y)| z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[y as usize]).sum::<f64>()
    };
    for (place, found) in host(slope.unwrap()).into_iter().enumerate() {
        let moved = |by: f64| {
            let mut moved = exact.clone();
            moved[place] += by;
            objective(&moved)
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((f64::from(found) - slope).abs() < 1e-5, "{place}: {found}, expected {slope}");
    }
}

#[test]
fn a_logit_that_is_no_number_shows_in_the_nats() {
    let logits = Tensor::<2>::from_floats([[f32::NAN, 1.0]], &device());
    let mask = Tensor::<1>::from_floats([1.0], &device());
    let (nats, _) = cross_entropy_rows(logits, integers(&[1], &device()), mask, true);
    assert!(!host(nats)[0].is_finite());
}
