//! Layers with their backward pass written out, on the host's memory and on a device's, against the
//! composed layer under automatic differentiation.
//!
//! The form for a device runs here on the operations that its kernels have as oracle.

use burn::tensor::{DType, Device, Distribution, Tensor};
use proptest::prelude::*;
use terrace_kernels::RopeTable;
use terrace_model::{
    Architecture, FrozenLayer, Layer, Linear, Segment, SequenceContext, segment_specs,
};

fn architecture(kv_heads: usize, group: usize, head_dim: usize, mlp: usize) -> Architecture {
    let heads = kv_heads * group;
    let json = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": {}, "intermediate_size": {mlp}, "num_hidden_layers": 1,
        "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads}, "head_dim": {head_dim},
        "vocab_size": 8, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": false}}"#,
        heads * head_dim
    );
    Architecture::from_hugging_face(&json).unwrap()
}

struct Case {
    architecture: Architecture,
    layer: Layer,
    x: Tensor<2>,
    upstream: Tensor<2>,
    positions: Vec<i32>,
    segments: Vec<i32>,
    shape: [usize; 2],
}

impl Case {
    fn new(architecture: Architecture, shape: [usize; 2], lengths: &[usize]) -> Self {
        let device = Device::flex();
        let random = |shape: [usize; 2], deviation| {
            Tensor::<2>::random(shape, Distribution::Normal(0.0, deviation), &device)
        };
        let parameters = segment_specs(&architecture, Segment::Layer(0))
            .iter()
            .map(|spec| random(spec.matrix_shape(), 0.3))
            .collect();
        let rows = [shape[0] * shape[1], architecture.hidden_size as usize];
        let row =
            lengths.iter().cycle().zip(0..).flat_map(|(n, d)| (0..*n as i32).map(move |i| (i, d)));
        let (positions, segments): (Vec<i32>, Vec<i32>) = row.take(shape[1]).unzip();
        Self {
            layer: Layer::from_parameters(parameters),
            x: random(rows, 1.0),
            upstream: random(rows, 1.0),
            positions: positions.repeat(shape[0]),
            segments: segments.repeat(shape[0]),
            shape,
            architecture,
        }
    }

    fn table(&self) -> RopeTable {
        let a = &self.architecture;
        RopeTable::new(self.shape[1], a.head_dim as usize, a.rope_theta, &Device::flex())
    }

    /// Output, gradient of the input, gradients of the parameters.
    fn fused(&self) -> Vec<Vec<f32>> {
        let (a, device) = (&self.architecture, Device::flex());
        let (table, positions, segments) = (self.table(), &self.positions, &self.segments);
        self.taped(&SequenceContext::new(a, &table, positions, segments, self.shape, &device))
    }

    /// The same in the form for a device's memory.
    fn on_device(&self) -> Vec<Vec<f32>> {
        let (table, device) = (self.table(), Device::flex());
        let (positions, segments) = (&self.positions, &self.segments);
        let place = (&device, DType::F32);
        let context = SequenceContext::on_device(&table, positions, segments, self.shape, place);
        let found = self.taped(&context);
        let alone = self.layer.forward(&self.architecture, self.x.clone(), &context);
        assert_eq!(host(alone), found[0], "with a tape and without");
        let tape = self.layer.retape(&self.architecture, &self.x, &context).unwrap();
        let (_, dx) =
            self.layer.backward(&self.architecture, tape, self.upstream.clone(), &context);
        assert_eq!(host(dx), found[1], "run again");
        let frozen = host(self.frozen().forward(&self.architecture, self.x.clone(), &context));
        let size = found[0].iter().fold(1.0f32, |size, x| size.max(x.abs()));
        for (a, b) in frozen.iter().zip(&found[0]) {
            assert!((a - b).abs() <= 3e-5 * size, "for inference: {a}, expected {b}");
        }
        found
    }

    /// The layer with weights that are only read.
    fn frozen(&self) -> FrozenLayer {
        let (layer, linear) = (&self.layer, |weight: &Tensor<2>| Linear::Float(weight.clone()));
        FrozenLayer {
            input_layernorm: layer.input_layernorm.clone(),
            q_proj: linear(&layer.q_proj),
            k_proj: linear(&layer.k_proj),
            v_proj: linear(&layer.v_proj),
            o_proj: linear(&layer.o_proj),
            post_attention_layernorm: layer.post_attention_layernorm.clone(),
            gate_proj: linear(&layer.gate_proj),
            up_proj: linear(&layer.up_proj),
            down_proj: linear(&layer.down_proj),
        }
    }

    fn taped(&self, context: &SequenceContext) -> Vec<Vec<f32>> {
        let a = &self.architecture;
        let (output, tape) = self.layer.forward_taped(a, &self.x, context).unwrap();
        let (gradients, dx) = self.layer.backward(a, tape, self.upstream.clone(), context);
        [output, dx].into_iter().chain(gradients).map(host).collect()
    }

    fn composed(&self) -> Vec<Vec<f32>> {
        let (a, device) = (&self.architecture, Device::flex().autodiff());
        let (table, positions, segments) = (self.table(), &self.positions, &self.segments);
        let context =
            SequenceContext::composed(a, &table, positions, segments, self.shape, &device);
        let leaf = |tensor: Tensor<2>| Tensor::from_inner(tensor).require_grad();
        let x = leaf(self.x.clone());
        let leaves: Vec<Tensor<2>> = self.layer.parameters().into_iter().map(leaf).collect();
        let output = Layer::from_parameters(leaves.clone()).forward(a, x.clone(), &context);
        let upstream = Tensor::from_inner(self.upstream.clone());
        let mut graph = (output.clone() * upstream).sum().backward();
        let gradients: Vec<Tensor<2>> = std::iter::once(&x)
            .chain(&leaves)
            .map(|leaf| leaf.grad_remove(&mut graph).unwrap())
            .collect();
        std::iter::once(output.inner()).chain(gradients).map(host).collect()
    }
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Compares relative to the largest element of each tensor.
fn assert_close(case: &Case) {
    let composed = case.composed();
    for (form, found) in [("fused", case.fused()), ("on a device", case.on_device())] {
        for (index, (a, b)) in found.iter().zip(&composed).enumerate() {
            let size = b.iter().fold(1.0f32, |size, x| size.max(x.abs()));
            for (a, b) in a.iter().zip(b) {
                let close = (a - b).abs() <= 3e-5 * size;
                assert!(close, "{form}, tensor {index}: {a} {b}, largest {size}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn output_and_gradients_are_those_of_the_composed_layer(
        b in 1usize..4,
        t in 1usize..40,
        kv_heads in 1usize..3,
        group in 1usize..5,
        half in 1usize..5,
        mlp in 1usize..50,
        lengths in proptest::collection::vec(1usize..12, 1..5),
    ) {
        assert_close(&Case::new(architecture(kv_heads, group, 2 * half, mlp), [b, t], &lengths));
    }
}

#[test]
fn sizes_that_no_tile_divides_agree() {
    assert_close(&Case::new(architecture(1, 2, 8, 33), [1, 655], &[10_000]));
    assert_close(&Case::new(architecture(1, 2, 8, 33), [2, 131], &[70, 1, 50]));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let case = Case::new(architecture(2, 3, 32, 300), [2, 129], &[50, 1, 90]);
    let run = |n| {
        rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(|| case.fused())
    };
    let one = run(1);
    assert!(one == run(2), "two threads");
    assert!(one == run(3), "three threads");
}
