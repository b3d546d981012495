//! Attention by tiles.

use burn::tensor::{Device, Tensor, TensorData};
use terrace_kernels::device::{
    DeviceDocuments, attention_backward, attention_forward, has_kernels,
};
use terrace_kernels::host::AttentionShape;

use crate::{close, device, host, noise, pair};

struct Case {
    b: usize,
    t: usize,
    shape: AttentionShape,
    /// The lengths of a sequence's documents, over and over.
    documents: &'static [usize],
}

const fn case(
    [b, t]: [usize; 2],
    [heads, kv_heads, head_dim]: [usize; 3],
    documents: &'static [usize],
) -> Case {
    Case { b, t, shape: AttentionShape { heads, kv_heads, head_dim }, documents }
}

/// One token, one head, groups, heads of every width of tile, sizes that no tile divides, and documents
/// of one token.
const CASES: [Case; 10] = [
    case([1, 1], [1, 1, 4], &[1]),
    case([3, 1], [2, 1, 64], &[1]),
    case([2, 9], [4, 2, 8], &[3, 1, 2]),
    case([1, 32], [1, 1, 64], &[32]),
    case([1, 33], [3, 1, 64], &[1]),
    case([2, 70], [2, 2, 16], &[40, 1, 50]),
    case([1, 131], [4, 1, 64], &[131]),
    case([1, 67], [2, 1, 128], &[30, 37]),
    case([1, 45], [2, 2, 80], &[7]),
    case([1, 50], [1, 1, 36], &[49]),
];

impl Case {
    fn segments(&self) -> Vec<i32> {
        let numbered = self.documents.iter().cycle().zip(0..);
        let row: Vec<i32> =
            numbered.flat_map(|(n, d)| std::iter::repeat_n(d, *n)).take(self.t).collect();
        row.repeat(self.b)
    }

    fn documents(&self, device: &Device) -> DeviceDocuments {
        DeviceDocuments::new(&self.segments(), [self.b, self.t], device)
    }

    fn widths(&self) -> [usize; 2] {
        [self.shape.heads, self.shape.kv_heads].map(|heads| heads * self.shape.head_dim)
    }

    /// Queries, keys, values and the gradient of what comes out, on the processor and on the device.
    fn inputs(&self) -> [[Tensor<2>; 2]; 4] {
        let ([q, k], rows) = (self.widths(), self.b * self.t);
        [(q, 1), (k, 2), (k, 3), (q, 4)].map(|(width, seed)| {
            // Scores large enough that the softmax is far from flat.
            pair([rows, width], seed).map(|x| x * 3.0)
        })
    }

    fn name(&self) -> String {
        format!("{:?}, {:?}, documents of {:?}", [self.b, self.t], self.shape, self.documents)
    }
}

#[test]
fn forward_and_backward_are_those_of_the_composed_form() {
    for case in &CASES {
        let name = case.name();
        assert!(has_kernels(&device(), case.shape.head_dim), "{name}");
        let [[q, q_], [k, k_], [v, v_], [up, up_]] = case.inputs();
        let (expected_documents, documents) =
            (case.documents(&Device::flex()), case.documents(&device()));
        let (mixed, logs) =
            attention_forward(q.clone(), k.clone(), v.clone(), &expected_documents, case.shape);
        let (mixed_, logs_) =
            attention_forward(q_.clone(), k_.clone(), v_.clone(), &documents, case.shape);
        close(mixed_.clone(), mixed.clone(), 1e-5, &format!("mixed, {name}"));
        close(logs_.clone(), logs.clone(), 1e-5, &format!("log-sums, {name}"));
        let expected =
            attention_backward([q, k, v], mixed, logs, up, &expected_documents, case.shape);
        let found = attention_backward([q_, k_, v_], mixed_, logs_, up_, &documents, case.shape);
        for ((found, expected), which) in found.into_iter().zip(expected).zip(["dq", "dk", "dv"]) {
            close(found, expected, 3e-5, &format!("{which}, {name}"));
        }
    }
}

#[test]
fn the_same_again_gives_the_same_bits() {
    let case = &CASES[6];
    let run = || {
        let [[_, q], [_, k], [_, v], [_, up]] = case.inputs();
        let documents = case.documents(&device());
        let (mixed, logs) =
            attention_forward(q.clone(), k.clone(), v.clone(), &documents, case.shape);
        let gradients =
            attention_backward([q, k, v], mixed.clone(), logs.clone(), up, &documents, case.shape);
        [mixed, logs].into_iter().chain(gradients).map(host).collect::<Vec<_>>()
    };
    assert!(run() == run());
}

/// `Σ upstream · attention`, in f64, from the definition.
fn objective(case: &Case, [q, k, v, upstream]: [&[f64]; 4]) -> f64 {
    let AttentionShape { heads, kv_heads, head_dim: h } = case.shape;
    let segments = case.segments();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut total = 0.0;
    for head in 0..heads {
        let kv = head / (heads / kv_heads);
        for query in 0..case.b * case.t {
            let own = |x: usize| (x * heads + head) * h..(x * heads + head + 1) * h;
            let other = |x: usize| (x * kv_heads + kv) * h..(x * kv_heads + kv + 1) * h;
            let first = query / case.t * case.t;
            let seen: Vec<usize> =
                (first..=query).filter(|key| segments[*key] == segments[query]).collect();
            let weight =
                |key: &usize| (dot(&q[own(query)], &k[other(*key)]) / (h as f64).sqrt()).exp();
            let sum: f64 = seen.iter().map(weight).sum();
            for key in &seen {
                total += weight(key) / sum * dot(&v[other(*key)], &upstream[own(query)]);
            }
        }
    }
    total
}

#[test]
fn gradients_are_slopes_of_the_definition() {
    let case = case([2, 7], [4, 2, 8], &[4, 1]);
    let ([q, k], rows) = (case.widths(), case.b * case.t);
    let values: Vec<Vec<f32>> =
        [(q, 5), (k, 6), (k, 7), (q, 8)].map(|(width, seed)| noise(rows * width, seed)).into();
    let on_device = |i: usize| {
        let width = values[i].len() / rows;
        Tensor::<2>::from_data(TensorData::new(values[i].clone(), [rows, width]), &device())
    };
    let documents = case.documents(&device());
    let inputs = [on_device(0), on_device(1), on_device(2)];
    let [q, k, v] = inputs.clone();
    let (mixed, logs) = attention_forward(q, k, v, &documents, case.shape);
    let gradients =
        attention_backward(inputs, mixed, logs, on_device(3), &documents, case.shape).map(host);

    let exact: Vec<Vec<f64>> =
        values.iter().map(|x| x.iter().map(|x| f64::from(*x)).collect()).collect();
    for (which, found) in gradients.iter().enumerate() {
        for place in (0..found.len()).step_by(5) {
            let moved = |by: f64| {
                let mut moved = exact.clone();
                moved[which][place] += by;
                objective(&case, [&moved[0], &moved[1], &moved[2], &moved[3]])
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let difference = (f64::from(found[place]) - slope).abs();
            assert!(difference < 1e-5, "{which}, {place}: {}, expected {slope}", found[place]);
        }
    }
}
