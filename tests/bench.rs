//! What `terrace bench` measures.

use serde_json::Value;

use crate::support::terrace;

fn sum(values: &Value, key: &str) -> f64 {
    values.as_array().unwrap().iter().map(|value| value[key].as_f64().unwrap()).sum()
}

#[test]
fn the_operations_of_a_step_make_up_its_time() {
    let bench = ["bench", "train", "--batch", "2x70", "--layers", "1", "--steps", "1", "--json"];
    let answer = terrace(bench.iter().chain(&["--recompute", "none", "-q"])).expect_code(0).json();
    let operations = &answer["results"][0]["operations"];
    let shares = sum(&operations["shares"], "share");
    assert!((shares - 1.0).abs() < 1e-9, "{operations}");
    let named = |name: &str| {
        let all = operations["shares"].as_array().unwrap();
        all.iter().find(|share| share["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    for name in ["product", "scores: product", "scores: softmax", "norm", "gate", "adamw"] {
        assert!(named(name)["seconds"].as_f64().unwrap() > 0.0, "{name}");
    }
    // Projections: two operations for each weight, token and pass; three passes. The tiles of attention
    // are whole where the causal mask would leave a half: 70 queries are one tile of 64 and one of 6.
    let (d, f, v, wide, narrow) = (384, 1024, 8192, 384, 128);
    let projections = 6 * 140 * (2 * d * wide + 2 * d * narrow + 3 * d * f + d * v);
    let pairs = 2 * (64 * 64 + 6 * 70);
    let attention = 2 * pairs * wide * 7;
    assert_eq!(operations["products"]["flops"].as_u64(), Some(projections + attention));
}

#[test]
fn each_kernel_is_held_against_its_bound() {
    let bench = ["bench", "kernels", "--batch", "2x9", "--repeats", "1", "--composed", "--json"];
    let answer = terrace(bench).expect_code(0).json();
    let peaks = |key: &str| answer["peaks"][key].as_f64().unwrap();
    for kernel in answer["results"].as_array().unwrap() {
        let number = |key: &str| kernel[key].as_f64().unwrap();
        let by_arithmetic = number("flops") / peaks("flops_per_second");
        let by_memory = number("bytes") / peaks("bytes_per_second");
        assert_eq!(number("bound_seconds"), by_arithmetic.max(by_memory), "{kernel}");
        assert!(number("seconds") > 0.0, "{kernel}");
    }
    let composed = answer["composed"].as_array().unwrap();
    assert_eq!(composed.len(), 5);
    assert!(composed.iter().all(|c| c["fused_seconds"].as_f64().unwrap() > 0.0), "{answer}");
}
