//! The same operations put together from the tensor library's, with its automatic differentiation.

use std::hint::black_box;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Serialize;
use terrace_kernels::{AttentionMask, RopeTable, causal_attention, linear, rms_norm, rope, swiglu};

use super::{Extents, noise};

/// One operation in both forms.
#[derive(Debug, Serialize)]
pub(super) struct Composition {
    name: &'static str,
    seconds: f64,
    /// Forward and backward of the fused form.
    fused_seconds: f64,
    speedup: f64,
}

impl Composition {
    pub(super) fn new(name: &'static str, seconds: f64, fused_seconds: f64) -> Self {
        Self { name, seconds, fused_seconds, speedup: seconds / fused_seconds }
    }

    pub(super) fn row(&self) -> [String; 4] {
        let milliseconds = |seconds: f64| format!("{:.3}", seconds * 1e3);
        [
            self.name.to_owned(),
            milliseconds(self.seconds),
            milliseconds(self.fused_seconds),
            format!("{:.2}", self.speedup),
        ]
    }
}

/// Hands over the name, the names of the same in the fused form, and a forward and backward pass.
pub(super) fn each(
    e: &Extents,
    device: &Device,
    mut take: impl FnMut(&'static str, &[&str], &mut dyn FnMut()),
) {
    let tracked = device.clone().autodiff();
    let leaf = |count: usize, shape: [usize; 2], name: &str| {
        let values = TensorData::new(noise(count, name), shape);
        Tensor::<2>::from_data(values, &tracked).require_grad()
    };
    let matrix = |shape: [usize; 2], name: &str| leaf(shape[0] * shape[1], shape, name);
    let back = |result: Tensor<2>| {
        black_box(result.sum().backward());
    };

    let (q, k) = (matrix([e.rows, e.wide], "q"), matrix([e.rows, e.narrow], "k"));
    let v = matrix([e.rows, e.narrow], "v");
    let h = e.architecture.head_dim as usize;
    let (n, kv) = (e.wide / h, e.narrow / h);
    let mask = AttentionMask::within_documents(&vec![0; e.rows], [e.b, e.t], n / kv, &tracked);
    take("attention", &["attention", "attention: backward"], &mut || {
        let heads = |x: &Tensor<2>, count: usize| x.clone().reshape([e.b, e.t, count, h]);
        back(causal_attention(heads(&q, n), heads(&k, kv), heads(&v, kv), &mask));
    });
    drop((k, v, mask));

    let table = RopeTable::new(e.t, h, e.architecture.rope_theta, &tracked);
    let positions: Vec<i32> = (0..e.b).flat_map(|_| 0..e.t as i32).collect();
    let positions: Tensor<1, Int> =
        Tensor::from_data(TensorData::new(positions, [e.rows]), &tracked);
    let (cos, sin) = table.lookup(positions, [e.b, e.t]);
    take("rotation", &["rotation", "rotation: backward"], &mut || {
        let rotated = rope(q.clone().reshape([e.b, e.t, n, h]), cos.clone(), sin.clone());
        back(rotated.reshape([e.rows, e.wide]));
    });
    drop(q);

    let (x, weight) = (matrix([e.rows, e.d], "x"), matrix([1, e.d], "weight"));
    take("norm", &["norm", "norm: backward"], &mut || {
        back(rms_norm(x.clone(), weight.clone(), e.architecture.rms_norm_eps));
    });

    let (gate, up) = (matrix([e.rows, e.f], "gate"), matrix([e.rows, e.f], "up"));
    take("gate", &["gate", "gate: backward"], &mut || back(swiglu(gate.clone(), up.clone())));
    drop((gate, up));

    let head = matrix([e.v, e.d], "head");
    let ids: Vec<i32> = (0..e.rows).map(|i| (i * 31 % e.v) as i32).collect();
    let targets: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [e.rows, 1]), &tracked);
    let name = "projection and cross entropy";
    take(name, &[name], &mut || {
        let log_p = log_softmax(linear(x.clone(), head.clone()), 1);
        back(log_p.gather(1, targets.clone()).neg());
    });
}
