//! The kernels of a device against their composed forms, which the processor computes.
//!
//! They run on what feature is compiled in: a CUDA card, else what WebGPU stands on.
#![cfg(any(feature = "cuda", feature = "wgpu"))]

#[path = "cube/attention.rs"]
mod attention;
#[path = "cube/elements.rs"]
mod elements;
#[path = "cube/rows.rs"]
mod rows;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The device under test.
fn device() -> Device {
    #[cfg(feature = "cuda")]
    return Device::cuda(0);
    #[cfg(not(feature = "cuda"))]
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

/// Numbers between -1 and 1 that look random.
fn noise(count: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The same numbers on the processor and on the device under test.
fn pair<const D: usize>(shape: [usize; D], seed: u64) -> [Tensor<D>; 2] {
    let data = TensorData::new(noise(shape.iter().product(), seed), shape);
    [Device::flex(), device()].map(|device| Tensor::from_data(data.clone(), &device))
}

fn integers(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

/// Compares relative to the largest expected element, or to 1 where that is larger.
#[track_caller]
fn close<const D: usize>(found: Tensor<D>, expected: Tensor<D>, tolerance: f32, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    assert_eq!(found.dtype(), expected.dtype(), "{what}");
    let (found, expected) = (host(found), host(expected));
    let size = expected.iter().fold(1.0f32, |size, x| size.max(x.abs()));
    for (place, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= tolerance * size, "{what}, {place}: {a}, expected {b}");
    }
}
