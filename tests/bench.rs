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

#[test]
fn the_loader_is_measured_for_each_number_of_sources() {
    let bench = ["bench", "loader", "--sources", "1,3", "--batch", "2x64", "--repeats", "1"];
    let size = ["--tokens", "20000", "--read", "4096", "--json", "-q"];
    let answer = terrace(bench.iter().chain(&size)).expect_code(0).json();
    let results = answer["results"].as_array().unwrap();
    for sources in [1, 3] {
        let own: Vec<_> = results.iter().filter(|m| m["sources"] == sources).collect();
        assert_eq!(own[0]["threads"], 1, "{answer}");
        for m in own {
            let number = |key: &str| m[key].as_f64().unwrap();
            // 32 steps of 2x64 are 4096 tokens for each thread.
            let tokens = number("tokens_per_second") * number("seconds");
            assert!((tokens - 4096.0 * number("threads")).abs() < 1e-3, "{m}");
            assert!(number("draw_nanoseconds") > 0.0, "{m}");
        }
    }
    let refused = terrace(["bench", "loader", "--sources", "0"]).expect_code(2);
    assert!(refused.stderr.contains("--sources"), "{refused}");
}

#[test]
fn each_step_of_preparing_is_measured() {
    let bench = ["bench", "prepare", "--input", "crates/base/src", "--extension", "rs"];
    let options = ["--repeats", "1", "--items", "50", "--json", "-q"];
    let answer = terrace(bench.iter().chain(&options)).expect_code(0).json();
    let names: Vec<&str> =
        answer["steps"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    let expected = ["parse", "validate", "normalise", "filter", "hash", "contamination"];
    assert_eq!(names, [&expected[..], &["tokenise", "pack", "write"]].concat());
    assert!((sum(&answer["steps"], "share") - 1.0).abs() < 1e-9, "{answer}");
    let bytes = answer["text_bytes"].as_f64().unwrap();
    // A token of text stands for a byte at least.
    let tokens = answer["tokens"].as_f64().unwrap();
    assert!(0.0 < tokens && tokens <= bytes, "{answer}");
    let chain = answer["chain"].as_array().unwrap();
    assert!(
        chain.iter().any(|c| c["searches"] == true) && chain.iter().any(|c| c["searches"] == false)
    );

    let without = terrace(bench.iter().chain(&["--items", "0", "--repeats", "1", "--json", "-q"]));
    let without = without.expect_code(0).json();
    assert_eq!(without["tokens"], answer["tokens"]);
    assert!(without["steps"].as_array().unwrap().iter().all(|s| s["name"] != "contamination"));
    let nothing =
        terrace(["bench", "prepare", "--input", "crates/base/src", "--extension", "none"]);
    assert!(nothing.expect_code(2).stderr.contains("no text"));
}

/// The peak of a process beside that of the plan, where memory is the state's and where it is a layer's.
#[test]
fn the_plan_says_what_a_state_in_each_format_takes() {
    let formats = [
        "--precision f32 --moments 8-bit --gradient-release --recompute all",
        "--precision bf16-mixed --moments f32 --recompute all",
        "--precision bf16 --moments bf16 --recompute none",
        "--precision bf16 --moments 8-bit --micro-batches 2 --recompute none",
    ];
    for format in formats {
        let bench = ["bench", "train", "--batch", "2x320", "--layers", "3", "--steps", "1"];
        let bench = bench.into_iter().chain(format.split(' ')).chain(["--json", "-q"]);
        let answer = terrace(bench).expect_code(0).json();
        let bytes = |key: &str| answer["results"][0][key].as_u64().unwrap() as f64;
        let measured = bytes("peak_memory_bytes") - bytes("baseline_memory_bytes");
        let planned = bytes("predicted_peak_memory_bytes");
        assert!((planned / measured - 1.0).abs() < 0.1, "{format}: {measured}, planned {planned}");
    }
}

#[test]
fn bf16_is_refused_where_a_device_has_none() {
    for format in ["--precision=bf16", "--precision=bf16-mixed", "--moments=bf16"] {
        let outcome = terrace(["bench", "train", "--device", "wgpu", format]).expect_code(2);
        assert!(outcome.stderr.contains("wgpu has no bf16"), "{outcome}");
        assert!(outcome.stderr.contains("8-bit"), "what to do: {outcome}");
    }
}

#[test]
fn a_batch_without_room_is_refused() {
    for bench in ["kernels", "loader"] {
        let refused = terrace(["bench", bench, "--batch", "1000000x1000000"]).expect_code(3);
        assert!(refused.stderr.contains("a smaller --batch"), "{refused}");
    }
    let refused = terrace(["bench", "train", "--steps", "0"]).expect_code(2);
    assert!(refused.stderr.contains("at least 1"), "{refused}");
}
