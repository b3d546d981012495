//! The operations as training makes them on the processor.

use std::hint::black_box;

use burn::tensor::{Device, Int, Tensor, TensorData};
use terrace_kernels::host::{
    AttentionShape, Documents, Matrix, MatrixMut, Rotations, RoundingKey, Threads,
    attention_backward, attention_forward, gate_backward, gate_forward, multiply, norm_backward,
    norm_forward, norm_scale, rotate,
};
use terrace_kernels::{
    AdamW, MomentFormat, Moments, adamw_step, linear_cross_entropy, square_sums,
};

use super::{Case, Extents, noise};

/// The rows of logits that exist at one time.
const CHUNK_ROWS: usize = 256;

/// Hands every operation over, one after the other, so that the operands of one exist at one time.
pub(super) fn each(extents: &Extents, device: &Device, mut take: impl FnMut(Case<'_>)) {
    products(extents, &mut take);
    attention(extents, &mut take);
    norm(extents, &mut take);
    rotation(extents, &mut take);
    gate(extents, &mut take);
    head(extents, device, &mut take);
    update(extents, device, &mut take);
}

fn bytes(elements: usize) -> u64 {
    (elements * size_of::<f32>()) as u64
}

/// The three products of one projection, `[rows, d]` to `[rows, f]`.
fn products(e: &Extents, take: &mut impl FnMut(Case<'_>)) {
    let (rows, d, f) = (e.rows, e.d, e.f);
    let (x, w, y) = (noise(rows * d, "x"), noise(f * d, "w"), noise(rows * f, "y"));
    let [x, w, y] = [Matrix::new(&x, rows, d), Matrix::new(&w, f, d), Matrix::new(&y, rows, f)];
    let (flops, bytes) = (2 * (rows * d * f) as u64, bytes(rows * d + f * d + rows * f));
    let mut case = |name, [m, n]: [usize; 2], a: Matrix<'_>, b: Matrix<'_>| {
        let mut out = vec![0.0; m * n];
        let work = Box::new(move || {
            multiply(MatrixMut::new(&mut out, m, n), false, a, b, 1.0, Threads::All);
        });
        take(Case { name, flops, bytes, work });
    };
    case("projection", [rows, f], x, w.transposed());
    case("projection: upstream", [rows, d], y, w);
    case("projection: gradient", [f, d], y.transposed(), x);
}

fn attention(e: &Extents, take: &mut impl FnMut(Case<'_>)) {
    let shape = AttentionShape {
        heads: e.architecture.num_attention_heads as usize,
        kv_heads: e.architecture.num_key_value_heads as usize,
        head_dim: e.architecture.head_dim as usize,
    };
    let (wide, narrow) = (e.rows * e.wide, e.rows * e.narrow);
    let (q, k, v) = (noise(wide, "q"), noise(narrow, "k"), noise(narrow, "v"));
    let upstream = noise(wide, "upstream");
    let documents = Documents::new(&vec![0; e.rows], [e.b, e.t]);
    let pairs = (e.b * e.t * (e.t + 1) / 2) as u64;
    // Of one product: scores by queries and keys, say.
    let product = 2 * pairs * e.wide as u64;
    take(Case {
        name: "attention",
        flops: 2 * product,
        bytes: bytes(2 * wide + 2 * narrow),
        work: Box::new(|| {
            black_box(attention_forward(&q, &k, &v, &documents, shape));
        }),
    });
    let (mixed, sums) = attention_forward(&q, &k, &v, &documents, shape);
    take(Case {
        name: "attention: backward",
        flops: 5 * product,
        bytes: bytes(4 * wide + 4 * narrow),
        work: Box::new(|| {
            let gradients =
                attention_backward(&q, &k, &v, &mixed, &sums, &upstream, &documents, shape);
            black_box(gradients);
        }),
    });
}

fn norm(e: &Extents, take: &mut impl FnMut(Case<'_>)) {
    let size = e.rows * e.d;
    let (x, dy, weight) = (noise(size, "x"), noise(size, "dy"), noise(e.d, "weight"));
    let epsilon = e.architecture.rms_norm_eps;
    take(Case {
        name: "norm",
        flops: 0,
        bytes: bytes(2 * size),
        work: Box::new(|| {
            black_box(norm_forward(&x, &norm_scale(&x, e.d, epsilon), &weight));
        }),
    });
    let scale = norm_scale(&x, e.d, epsilon);
    let mut dx = vec![0.0; size];
    take(Case {
        name: "norm: backward",
        flops: 0,
        bytes: bytes(4 * size),
        work: Box::new(|| {
            black_box(norm_backward(&x, &scale, &weight, &dy, &mut dx));
        }),
    });
}

fn rotation(e: &Extents, take: &mut impl FnMut(Case<'_>)) {
    let half = e.architecture.head_dim as usize / 2;
    let angles = |f: fn(f32) -> f32| (0..e.rows * half).map(|i| f(i as f32)).collect();
    let rotations = Rotations { cos: angles(f32::cos), sin: angles(f32::sin), half };
    let mut q = noise(e.rows * e.wide, "q");
    for (name, backward) in [("rotation", false), ("rotation: backward", true)] {
        let work = Box::new(|| rotate(&mut q, &rotations, backward));
        take(Case { name, flops: 0, bytes: bytes(2 * e.rows * e.wide), work });
    }
}

fn gate(e: &Extents, take: &mut impl FnMut(Case<'_>)) {
    let size = e.rows * e.f;
    let (mut gate, mut up) = (noise(size, "gate"), noise(size, "up"));
    let upstream = noise(size, "upstream");
    take(Case {
        name: "gate",
        flops: 0,
        bytes: bytes(3 * size),
        work: Box::new(|| {
            black_box(gate_forward(&gate, &up));
        }),
    });
    take(Case {
        name: "gate: backward",
        flops: 0,
        bytes: bytes(5 * size),
        work: Box::new(|| gate_backward(&mut gate, &mut up, &upstream)),
    });
}

fn tensor(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The output projection with its cross entropy and both gradients.
fn head(e: &Extents, device: &Device, take: &mut impl FnMut(Case<'_>)) {
    let (rows, d, v) = (e.rows, e.d, e.v);
    let hidden = tensor(noise(rows * d, "hidden"), [rows, d], device);
    let weight = tensor(noise(v * d, "weight"), [v, d], device);
    let ids: Vec<i32> = (0..rows).map(|i| (i * 31 % v) as i32).collect();
    let targets: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [rows]), device);
    let mask = Tensor::<1>::ones([rows], device);
    take(Case {
        name: "projection and cross entropy",
        flops: 6 * (rows * d * v) as u64,
        bytes: bytes(2 * rows * d + 2 * v * d),
        work: Box::new(|| {
            let (hidden, weight) = (hidden.clone(), weight.clone());
            let (targets, mask) = (targets.clone(), mask.clone());
            black_box(linear_cross_entropy(hidden, weight, targets, mask, CHUNK_ROWS, true));
        }),
    });
}

fn update(e: &Extents, device: &Device, take: &mut impl FnMut(Case<'_>)) {
    let (size, shape) = (e.f * e.d, [e.f, e.d]);
    let gradient = tensor(noise(size, "gradient"), shape, device);
    let constants = AdamW {
        learning_rate: 1e-5,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 10,
        beta2_product: 0.95f64.powi(10),
        rounding: RoundingKey(0),
    };
    let moments = Moments::zeros(shape, MomentFormat::F32, device);
    let mut state = Some((tensor(noise(size, "parameter"), shape, device), moments));
    take(Case {
        name: "adamw",
        flops: 0,
        bytes: bytes(7 * size),
        work: Box::new(|| {
            let (parameter, moments) = state.take().expect("it is put back");
            state = Some(adamw_step(parameter, gradient.clone(), 1.0, moments, constants));
        }),
    });
    take(Case {
        name: "square sum",
        flops: 0,
        bytes: bytes(size),
        work: Box::new(|| {
            black_box(square_sums(vec![gradient.clone()]));
        }),
    });
}
