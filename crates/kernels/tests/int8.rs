//! Eight-bit weights against double precision, and against the f32 product of what they stand for.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use terrace_kernels::{Int8Error, Int8Matrix, int8_blocks, linear};

/// Numbers between -1 and 1 that look random.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn product(matrix: &Int8Matrix, x: &[f32], by_rows: bool) -> Vec<f32> {
    let [outputs, inputs] = matrix.shape();
    let rows = x.len() / inputs;
    let x: Tensor<2> =
        Tensor::from_data(TensorData::new(x.to_vec(), [rows, inputs]), &Device::flex());
    let y = if by_rows { matrix.linear_by_rows(x) } else { matrix.linear(x) };
    assert_eq!(y.dims(), [rows, outputs]);
    y.into_data().try_to_vec().unwrap()
}

/// Checks a product against one in double precision of the weights that the integers stand for.
fn assert_product(weights: &[f32], shape @ [outputs, inputs]: [usize; 2], rows: usize) {
    let matrix = Int8Matrix::quantize(weights, shape).unwrap();
    let known = matrix.dequantize();
    let x = noise(rows * inputs, 5);
    for by_rows in [false, true] {
        let found = product(&matrix, &x, by_rows);
        for row in 0..rows {
            for out in 0..outputs {
                let terms = || {
                    let x = &x[row * inputs..][..inputs];
                    let w = &known[out * inputs..][..inputs];
                    x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w))
                };
                let (exact, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let found = f64::from(found[row * outputs + out]);
                // Half a unit in the last place for each of the sums that a term goes through.
                let bound = size * 6e-8 * (inputs as f64 / 16.0 + 8.0) + 1e-44;
                assert!((found - exact).abs() <= bound, "{shape:?} {rows}: {found} {exact}");
            }
        }
    }
}

/// No weight moves by more than half of its block's scale.
fn assert_within_half_a_step(weights: &[f32], shape @ [_, inputs]: [usize; 2]) {
    let matrix = Int8Matrix::quantize(weights, shape).unwrap();
    let scale = |index: usize| {
        let (row, column) = (index / inputs, index % inputs);
        let bits = matrix.scales()[row * int8_blocks(inputs) + column / 32];
        half::f16::from_bits(bits).to_f32()
    };
    for (index, (weight, known)) in weights.iter().zip(matrix.dequantize()).enumerate() {
        let bound = 0.5 * scale(index) * (1.0 + 1e-5);
        assert!((weight - known).abs() <= bound, "{shape:?} {index}: {weight} {known} {bound}");
    }
    assert!(matrix.values().iter().all(|value| *value != i8::MIN));
}

#[test]
fn rows_and_tiles_agree_with_double_precision() {
    for shape in [[1, 1], [3, 31], [5, 32], [64, 33], [130, 96], [40, 200], [7, 4096]] {
        let weights = noise(shape[0] * shape[1], 1);
        for rows in [1, 2, 3, 4, 8, 32, 33, 40] {
            assert_product(&weights, shape, rows);
        }
    }
    // More than one tile of weights in f32, the last one short.
    assert_product(&noise(3000 * 500, 2), [3000, 500], 33);
}

#[test]
fn a_block_is_rounded_as_worked_out_by_hand() {
    // The largest magnitude, 2.54, makes a scale of 0.02, whose nearest half precision is
    // 0x251f = 0.0200043 (1311 / 65536).
    let mut weights = [0.0f32; 34];
    weights[..4].copy_from_slice(&[2.54, -1.0, 0.01, 0.005]);
    weights[32..].copy_from_slice(&[-1e-3, 5e-4]);
    let matrix = Int8Matrix::quantize(&weights, [1, 34]).unwrap();
    assert_eq!(matrix.values()[..4], [127, -50, 0, 0]);
    assert_eq!(matrix.values()[32..], [-127, 64]);
    assert_eq!(matrix.scales()[0], 0x251f);
    assert_eq!(matrix.dequantize()[1], -50.0 * 1311.0 / 65536.0);
    assert_eq!(matrix.bytes(), 34 + 2 * 2);
}

#[test]
fn all_zeros_stay_zeros() {
    let matrix = Int8Matrix::quantize(&[0.0; 80], [2, 40]).unwrap();
    assert_eq!(matrix.dequantize(), [0.0; 80]);
    assert_eq!(product(&matrix, &noise(40, 3), false), [0.0; 2]);
}

#[test]
fn what_has_no_scale_is_refused_with_its_place() {
    let mut weights = noise(3 * 40, 4);
    weights[40 + 35] = f32::NAN;
    let Err(Int8Error::NotFinite { row: 1, column: 35, .. }) =
        Int8Matrix::quantize(&weights, [3, 40])
    else {
        panic!()
    };
    weights[40 + 35] = -8.4e6;
    let error = Int8Matrix::quantize(&weights, [3, 40]).unwrap_err();
    assert_eq!(error, Int8Error::TooLarge { row: 1, column: 35, value: -8.4e6 });
    assert!(error.to_string().contains("row 1, column 35"), "{error}");
    weights[40 + 35] = 65504.0 * 127.0;
    assert_within_half_a_step(&weights, [3, 40]);
}

#[test]
fn bytes_that_do_not_fit_are_refused() {
    let make = |values: usize, scales: Vec<u16>| {
        Int8Matrix::from_bytes(Arc::new(vec![1u8; 100]), 0..values, scales, [2, 40])
    };
    assert!(matches!(make(79, vec![0; 4]), Err(Int8Error::Count { found: 79, .. })));
    assert!(matches!(make(80, vec![0; 3]), Err(Int8Error::Count { expected: 4, .. })));
    for bits in [0x7c00, 0x7e00, 0x8001] {
        let error = make(80, vec![0, 0, 0, bits]).unwrap_err();
        assert!(matches!(error, Int8Error::Scale { row: 1, block: 1, .. }), "{error}");
    }
    let one = half::f16::ONE.to_bits();
    let matrix = Int8Matrix::from_bytes(Arc::new(vec![255u8; 90]), 3..83, vec![one; 4], [2, 40]);
    assert_eq!(matrix.unwrap().dequantize(), [-1.0; 80]);
}

#[test]
fn every_scale_of_half_precision_is_taken_exactly() {
    let bits: Vec<u16> = (0..half::f16::INFINITY.to_bits()).collect();
    let shape = [bits.len(), 1];
    let matrix = Int8Matrix::from_bytes(Arc::new(vec![1u8; shape[0]]), 0..shape[0], bits, shape);
    let known = matrix.unwrap().dequantize();
    assert_eq!(known.len(), 0x7c00);
    for (bits, value) in (0..).zip(known) {
        assert_eq!(value, half::f16::from_bits(bits).to_f32(), "{bits:#06x}");
    }
}

#[test]
fn a_device_with_autodiff_takes_the_composed_form() {
    let (shape, x) = ([9, 70], noise(3 * 70, 6));
    let matrix = Int8Matrix::quantize(&noise(9 * 70, 7), shape).unwrap();
    let x: Tensor<2> = Tensor::from_data(TensorData::new(x, [3, 70]), &Device::flex().autodiff());
    let composed: Vec<f32> = matrix.linear(x.clone()).into_data().try_to_vec().unwrap();
    let weight = Tensor::from_data(TensorData::new(matrix.dequantize(), shape), &x.device());
    let expected: Vec<f32> = linear(x, weight).into_data().try_to_vec().unwrap();
    assert_eq!(composed, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_weight_moves_by_more_than_half_a_step(
        outputs in 1usize..6, inputs in 1usize..100, exponent in -45i32..7, seed in 0u64..1000,
    ) {
        // From below the smallest half precision to nearly the largest weight that has a scale.
        let weights: Vec<f32> = noise(outputs * inputs, seed)
            .into_iter()
            .map(|w| (f64::from(w) * 10f64.powi(exponent)) as f32)
            .collect();
        assert_within_half_a_step(&weights, [outputs, inputs]);
    }

    #[test]
    fn any_shape_has_the_right_product(
        outputs in 1usize..70, inputs in 1usize..140, rows in 1usize..50, seed in 0u64..1000,
    ) {
        assert_product(&noise(outputs * inputs, seed), [outputs, inputs], rows);
    }

    #[test]
    fn a_row_does_not_depend_on_the_others(
        outputs in 1usize..50, inputs in 1usize..140, rows in 2usize..12, seed in 0u64..1000,
    ) {
        let matrix =
            Int8Matrix::quantize(&noise(outputs * inputs, seed), [outputs, inputs]).unwrap();
        let x = noise(rows * inputs, seed + 1);
        let together = product(&matrix, &x, true);
        for (row, x) in x.chunks_exact(inputs).enumerate() {
            let alone = product(&matrix, x, true);
            prop_assert_eq!(&alone[..], &together[row * outputs..][..outputs]);
        }
    }
}
