//! `terrace quantize` from the outside.

use std::path::Path;

use crate::support::{documents, files_below, repository, terrace_in};

fn base() -> String {
    repository().join("data/base").display().to_string()
}

/// What a request is refused with, unwrapped.
#[track_caller]
fn refusal(home: &Path, arguments: &[&str]) -> String {
    let answer = terrace_in(home, arguments.iter().chain(&["--json"])).expect_code(2).json();
    answer["error"]["message"].as_str().unwrap().to_owned()
}

/// Eight layers of 393,216 weights in products, each with two norms of 192.
const INTEGERS: u64 = 8 * 393_216;
/// Two tables of 8,192 x 192 and all norms.
const KEPT: u64 = 2 * 8_192 * 192 + (2 * 8 + 1) * 192;

#[test]
fn a_model_is_rounded_described_and_compared() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| terrace_in(home.path(), arguments);
    let answer = run(&["quantize", &base(), "--output", "int8", "--json"]).expect_code(0).json();
    assert_eq!(answer["integers"], INTEGERS);
    assert_eq!(answer["kept"], KEPT);
    // From bf16: two bytes each; to a byte and a thirty-second of two.
    assert_eq!(answer["bytes_before"], 2 * (INTEGERS + KEPT));
    assert_eq!(answer["bytes_after"], INTEGERS + INTEGERS / 16 + 2 * KEPT);
    assert!(home.path().join("int8/tokenizer.json").is_file());
    let config = std::fs::read_to_string(home.path().join("int8/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["quantization_config"]["quant_method"], "terrace_int8");
    assert_eq!(config["quantization_config"]["block_size"], 32);
    assert_eq!(config["hidden_size"], 192);

    let look = run(&["inspect", "int8", "--json"]).expect_code(0).json();
    assert_eq!(look["quantization"]["lm_head"], false, "{look}");
    assert_eq!(look["parameters"], INTEGERS + KEPT);
    assert_eq!(look["tensors"], 3 + 8 * (2 + 2 * 7));

    // It is for inference: nothing that trains or changes weights takes it.
    for arguments in [
        ["upscale", "--source", "int8", "--layers", "2..6", "--output", "deep"].as_slice(),
        &["quantize", "int8", "--output", "again"],
    ] {
        let message = refusal(home.path(), arguments);
        assert!(message.contains("name the folder that they were made from"), "{message}");
    }
    let message = refusal(home.path(), &["quantize", &base(), "--output", "int8"]);
    assert!(message.contains("name another folder"), "{message}");

    documents(home.path(), "counting");
    run(&["prepare", "counting.toml", "--output", "edition"]).expect_code(0);
    let file = repository().join("README.md").display().to_string();
    let texts = ["--text", "edition", "--text", &format!("readme={file}"), "--sequences", "2"];
    let certify = |models: &[&str]| {
        let arguments = ["quantize", "--certify"].iter().chain(models).chain(&texts);
        terrace_in(home.path(), arguments.chain(&["--json"]))
    };
    // A model beside itself shows that nothing but the rounding is measured.
    let same = certify(&[&base(), &base()]).expect_code(0).json();
    for source in same["sources"].as_array().unwrap() {
        assert_eq!(source["kl_nats_per_token"], 0.0, "{source}");
        assert_eq!(source["top_1_agreement"], 1.0);
        assert_eq!(source["perplexity_ratio"], 1.0);
    }
    let outcome = certify(&[&base(), "int8"]);
    let answer = outcome.json();
    assert_eq!(outcome.code == Some(0), answer["passed"].as_bool().unwrap(), "{outcome}");
    let sources = answer["sources"].as_array().unwrap();
    assert_eq!(sources[0]["source"], "edition");
    assert_eq!((&sources[0]["held_out"], &sources[1]["held_out"]), (&true.into(), &false.into()));
    for source in sources {
        assert!(source["tokens"].as_u64().unwrap() > 30, "{source}");
        let kl = source["kl_nats_per_token"].as_f64().unwrap();
        assert!(kl > 0.0 && kl < 0.01, "{source}");
        assert!(source["top_1_agreement"].as_f64().unwrap() > 0.9, "{source}");
    }
}

#[test]
fn the_output_projection_is_rounded_where_it_is_asked_for_and_its_own() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["quantize", &base(), "--output", "int8", "--lm-head", "--json"];
    let answer = terrace_in(home.path(), arguments).expect_code(0).json();
    assert_eq!(answer["integers"], INTEGERS + 8_192 * 192);
    let look = terrace_in(home.path(), ["inspect", "int8", "--json"]).expect_code(0).json();
    assert_eq!(look["quantization"]["lm_head"], true);

    let tied = repository().join("tests/golden/tied/model").display().to_string();
    let message = refusal(home.path(), &["quantize", &tied, "--output", "tied", "--lm-head"]);
    assert!(message.contains("leave out --lm-head"), "{message}");
    assert!(!home.path().join("tied").exists());
}

#[test]
fn a_weight_that_is_no_number_leaves_no_folder() {
    let home = tempfile::tempdir().unwrap();
    let copy = home.path().join("model");
    std::fs::create_dir(&copy).unwrap();
    for file in files_below(Path::new(&base()), "") {
        std::fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    let weights = copy.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let name = "model.layers.3.mlp.up_proj.weight";
    let start = header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    // Row 2, column 5 in bf16 becomes NaN.
    let place = 8 + length + start + 2 * (2 * 192 + 5);
    bytes[place..place + 2].copy_from_slice(&[0xc0, 0x7f]);
    std::fs::write(&weights, bytes).unwrap();
    let message = refusal(home.path(), &["quantize", "model", "--output", "int8"]);
    assert!(message.contains("up_proj.weight`: the weight in row 2, column 5 is NaN"), "{message}");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn requests_that_make_no_sense_say_what_would() {
    let home = tempfile::tempdir().unwrap();
    let usage = |arguments: &[&str]| terrace_in(home.path(), arguments).expect_code(2).stderr;
    assert!(usage(&["quantize", &base()]).contains("--output"));
    assert!(usage(&["quantize", &base(), "--certify"]).contains("--text"));
    let tied = repository().join("tests/golden/tied/model").display().to_string();
    std::fs::write(home.path().join("text.txt"), "a").unwrap();
    let certify = |other: &str, text: &str| {
        let arguments = ["quantize", "--certify", &base(), other, "--text", text];
        refusal(home.path(), &arguments)
    };
    assert!(certify(&base(), "text.txt").contains("longer text"));
    assert!(certify(&base(), "nothing.txt").contains("nothing.txt"));
    assert!(certify(&tied, "text.txt").contains("not of one shape"));
}
