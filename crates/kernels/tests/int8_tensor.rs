//! Eight-bit weights as other devices hold them, in the tensor library's operations.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use terrace_kernels::{Int8Matrix, Int8Tensor};

/// Numbers between -1 and 1 that look random.
fn noise(count: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Whole blocks, rows that end within a block or within a word, and a row of one weight.
const SHAPES: [[usize; 2]; 5] = [[7, 64], [3, 96], [5, 45], [4, 31], [2, 1]];

fn matrix(shape: [usize; 2]) -> Int8Matrix {
    let mut weights = noise(shape[0] * shape[1], 3);
    // The extremes of the integers, and a block of zeros.
    weights[0] = -2.0;
    if shape[1] > 32 {
        weights[32..shape[1]].fill(0.0);
    }
    Int8Matrix::quantize(&weights, shape).unwrap()
}

#[test]
fn the_weights_are_those_of_the_matrix_to_the_bit() {
    let device = Device::flex();
    for shape in SHAPES {
        let matrix = matrix(shape);
        let tensor = Int8Tensor::new(&matrix, &device);
        assert_eq!(tensor.shape(), shape);
        let weights = tensor.dequantize(FloatDType::F32);
        assert_eq!(weights.dims(), shape);
        let weights: Vec<f32> = weights.into_data().try_to_vec().unwrap();
        assert_eq!(weights, matrix.dequantize(), "{shape:?}");
        let whole = shape[1].div_ceil(32) * 34 * shape[0];
        assert_eq!(tensor.bytes(), whole, "a byte for each weight, two for each block");
    }
}

#[test]
fn products_are_those_of_the_matrix_in_both_formats() {
    let device = Device::flex();
    for shape @ [out, inputs] in SHAPES {
        let matrix = matrix(shape);
        let tensor = Int8Tensor::new(&matrix, &device);
        for rows in [1, 40] {
            let values = noise(rows * inputs, 8);
            let size: f32 = values.iter().map(|x| x.abs()).sum::<f32>() / rows as f32;
            let x: Tensor<2> = Tensor::from_data(TensorData::new(values, [rows, inputs]), &device);
            let expected: Vec<f32> = matrix.linear(x.clone()).into_data().try_to_vec().unwrap();
            for (dtype, bound) in [(FloatDType::F32, 1e-5), (FloatDType::BF16, 2e-2)] {
                // The matrix itself takes any element type too, a slow way.
                let narrow: Tensor<2> = matrix.linear(x.clone().cast(dtype));
                assert_eq!(narrow.dtype(), DType::from(dtype));
                let found = tensor.linear(x.clone().cast(dtype));
                assert_eq!(found.dtype(), DType::from(dtype));
                assert_eq!(found.dims(), [rows, out]);
                let found: Vec<f32> = found.cast(FloatDType::F32).into_data().try_to_vec().unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    let difference = (found - expected).abs();
                    assert!(difference <= bound * size.max(1.0), "{shape:?} {rows}: {difference}");
                }
            }
        }
    }
}

/// On a card, or on a software device of WebGPU: as many rows as the kernel takes, and more.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
#[test]
fn a_device_multiplies_as_the_processor_does() {
    #[cfg(feature = "cuda")]
    let device = Device::cuda(0);
    #[cfg(not(feature = "cuda"))]
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    for shape @ [_, inputs] in [[70, 1056], [33, 512], [5, 45]] {
        let matrix = matrix(shape);
        let tensor = Int8Tensor::new(&matrix, &device);
        for rows in [1, 3, 8, 11, 24, 25, 70] {
            let data = TensorData::new(noise(rows * inputs, 8), [rows, inputs]);
            let x = Tensor::<2>::from_data(data.clone(), &Device::flex());
            let expected: Vec<f32> = matrix.linear(x).into_data().try_to_vec().unwrap();
            for (dtype, bound) in [(FloatDType::F32, 1e-5), (FloatDType::BF16, 2e-2)] {
                if !device.supports_dtype(DType::from(dtype)) {
                    continue;
                }
                let x = Tensor::<2>::from_data(data.clone(), (&device, DType::F32)).cast(dtype);
                let y = tensor.linear(x).cast(FloatDType::F32);
                let found: Vec<f32> = y.into_data().try_to_vec().unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    let difference = (found - expected).abs();
                    assert!(difference <= bound * inputs as f32, "{shape:?} {rows}: {difference}");
                }
            }
        }
    }
}
