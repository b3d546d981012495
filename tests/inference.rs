//! The precision of inference, and the measurements of it, from the outside.

use serde_json::Value;

use crate::support::{repository, terrace};

fn bench(arguments: &[&str]) -> Value {
    let small = ["--layers", "1", "--warm-up", "1", "--json", "--quiet"];
    let arguments: Vec<&str> = ["bench"].iter().chain(arguments).chain(&small).copied().collect();
    terrace(arguments).expect_code(0).json()
}

#[test]
fn decoding_is_measured_in_every_format() {
    let answer = bench(&["decode", "--batch", "1,3", "--steps", "3", "--prompt", "5"]);
    let results = answer["results"].as_array().unwrap();
    let named: Vec<(&str, u64)> = results
        .iter()
        .map(|result| (result["weights"].as_str().unwrap(), result["batch"].as_u64().unwrap()))
        .collect();
    let expected = [("f32", 1), ("f32", 3), ("bf16", 1), ("bf16", 3), ("int8", 1), ("int8", 3)];
    assert_eq!(named, expected);
    for result in results {
        let number = |key: &str| result[key].as_f64().unwrap();
        let tokens = number("batch") / number("seconds_per_step");
        assert!((number("tokens_per_second") - tokens).abs() < 1e-6 * tokens, "{result}");
        assert!(result["tokens_per_second_ceiling"].is_null(), "no card, no ceiling: {result}");
    }
    let bytes = |index: usize| results[index]["bytes_per_step"].as_u64().unwrap();
    let weights = |index: usize| results[index]["memory"]["weights_bytes"].as_u64().unwrap();
    // Half the bits, half the bytes; nine sixteenths of that with a scale for every 32.
    assert_eq!(bytes(0), 2 * bytes(2));
    assert!(bytes(4) < bytes(2) && weights(4) < weights(0));
    assert!(bytes(1) > bytes(0), "three sequences have more keys than one");
}

#[test]
fn prefill_is_measured_and_wrong_shapes_are_refused() {
    let folder = repository().join("data/base").display().to_string();
    let arguments = ["prefill", "--shape", &folder, "--prompt", "20,40", "--chunk", "16"];
    let answer = bench(&[&arguments[..], &["--repeats", "2", "--weights", "f32"]].concat());
    assert_eq!(answer["shape"], "base");
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    let flops = |index: usize| results[index]["flops"].as_f64().unwrap();
    // The layers' products are twice as many, attention's four times; the projection stays one row.
    assert!(flops(1) > 1.2 * flops(0) && flops(1) < 2.5 * flops(0), "{answer}");

    // Six heads' scores of all positions for all positions are hundreds of gigabytes.
    let whole = ["bench", "prefill", "--weights", "bf16", "--prompt", "65535", "--chunk", "65535"];
    let outcome = terrace(whole).expect_code(3);
    assert!(outcome.stderr.contains("--chunk"), "{outcome}");

    let outcome = terrace(["bench", "prefill", "--shape", "yi-34b"]).expect_code(2);
    assert!(outcome.stderr.contains("yi-9b"), "{outcome}");
    let outcome = terrace(["generate", &folder, "--prompt", "x", "--precision", "f16"]);
    assert!(outcome.expect_code(2).stderr.contains("bf16"));
}

#[test]
fn bf16_generates_what_f32_does_on_a_model_that_is_sure() {
    let folder = repository().join("data/base").display().to_string();
    let tokens = |precision: &str| {
        let arguments = ["generate", &folder, "--prompt", "def add(a, b):\n    return", "--json"];
        let more = ["--max-new-tokens", "4", "--precision", precision];
        let arguments: Vec<&str> = arguments.into_iter().chain(more).collect();
        terrace(arguments).expect_code(0).json()["tokens"].clone()
    };
    assert_eq!(tokens("f32")[0], tokens("bf16")[0]);
}
