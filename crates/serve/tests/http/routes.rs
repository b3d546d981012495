//! The smaller routes, and requests that are none.

use serde_json::json;

use crate::client::send;
use crate::host::Host;

#[test]
fn the_remote_tokenizer_is_the_models() {
    let host = Host::with(|settings| {
        settings.texts.bos_token = Some("<end>".to_owned());
        settings.texts.add_bos = true;
    });
    let info = host.get("/tokenizer_info").json();
    assert_eq!(info["eos_token"], "<end>", "what the model takes for the end");
    assert!(info["pad_token"].is_null() && info["chat_template"].is_null());
    let tokens = |text: &str, special: bool| {
        let body = json!({"prompt": text, "add_special_tokens": special});
        let reply = host.post("/tokenize", &body).json();
        assert_eq!(reply["count"], reply["tokens"].as_array().unwrap().len());
        reply["tokens"].clone()
    };
    assert_eq!(tokens("<end>", false), json!([0]), "one id");
    let plain = tokens("in 数据!", false);
    assert_eq!(tokens("in 数据!", true).as_array().unwrap()[1..], *plain.as_array().unwrap());
    let text = host.post("/detokenize", &json!({"tokens": plain})).json();
    assert_eq!(text["prompt"], "in 数据!");
}

#[test]
fn the_model_is_named_and_healthy() {
    let host = Host::start();
    let models = host.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "bigram");
    assert_eq!(models["data"][0]["max_model_len"], 4096);
    let health = host.get("/health");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("ok")));
}

#[test]
fn everything_is_counted() {
    let host = Host::start();
    host.complete(&json!({"prompt": [[1, 2], [3]], "max_tokens": 2, "temperature": 0,
                          "ignore_eos": true}));
    host.post("/v1/completions", &json!({}));
    host.get("/no/such/route");
    let total = |route: &str, status: u16| {
        host.metric(&format!("terrace_requests_total{{route=\"{route}\",status=\"{status}\"}}"))
    };
    assert_eq!(total("/v1/completions", 200), 1.0);
    assert_eq!(total("/v1/completions", 400), 1.0);
    assert_eq!(total("other", 404), 1.0);
    assert_eq!(host.metric("terrace_prompt_tokens_total"), 3.0);
    assert_eq!(host.metric("terrace_generated_tokens_total"), 4.0);
    assert_eq!(host.metric("terrace_queue_length"), 0.0);
    let name = "terrace_request_seconds_count{route=\"/v1/completions\"}";
    assert_eq!(host.metric(name), 2.0);
    assert_eq!(host.metric("terrace_model_healthy"), 1.0);
}

#[test]
fn errors_have_openais_form_and_say_what_is_wrong() {
    let host = Host::start();
    let completion = "/v1/completions";
    for (method, path, body, status, code, word) in [
        ("POST", completion, "{\"prompt\": ", 400, "invalid_json", "line 1"),
        ("POST", completion, "", 400, "invalid_json", "JSON object"),
        ("POST", completion, "[\"bigram\", \"a\"]", 400, "invalid_json", "JSON object"),
        ("POST", completion, "{\"prompt\": 3}", 400, "invalid_value", "a list of strings"),
        ("POST", completion, "{}", 400, "invalid_value", "`prompt` is missing"),
        ("POST", completion, "{\"prompt\": []}", 400, "invalid_value", "empty list"),
        ("POST", completion, "{\"prompt\": \"\"}", 400, "invalid_value", "no token"),
        ("POST", completion, "{\"prompt\": [[]]}", 400, "invalid_value", "no token"),
        ("POST", completion, "{\"prompt\": [9999]}", 400, "invalid_value", "token 9999"),
        ("POST", completion, "{\"prompt\": \"a\", \"n\": 2}", 400, "invalid_value", "n = 1"),
        (
            "POST",
            completion,
            "{\"prompt\": \"a\", \"logit_bias\": {\"5\": 1}}",
            400,
            "invalid_value",
            "logit_bias",
        ),
        ("POST", completion, "{\"prompt\": \"a\", \"stop\": [\"\"]}", 400, "invalid_value", "stop"),
        (
            "POST",
            completion,
            "{\"prompt\": \"a\", \"temperature\": -1}",
            400,
            "invalid_value",
            "temperature -1",
        ),
        ("POST", completion, "{\"prompt\": \"a\", \"top_p\": 0}", 400, "invalid_value", "top_p 0"),
        (
            "POST",
            completion,
            "{\"prompt\": \"a\", \"logprobs\": 1000}",
            400,
            "invalid_value",
            "limit is 20",
        ),
        (
            "POST",
            completion,
            "{\"prompt\": \"a\", \"max_tokens\": 5000}",
            400,
            "context_length_exceeded",
            "4096",
        ),
        (
            "POST",
            completion,
            "{\"prompt\": \"a\", \"model\": \"b\"}",
            404,
            "model_not_found",
            "`bigram`",
        ),
        ("GET", completion, "", 405, "method_not_allowed", "GET"),
        ("GET", "/v1/nothing", "", 404, "unknown_url", "/v1/nothing"),
        ("POST", "/tokenize", "{}", 400, "invalid_value", "`prompt` is missing"),
        ("POST", "/detokenize", "{\"tokens\": [9999]}", 400, "invalid_value", "9999"),
        ("POST", "/detokenize", "{}", 400, "invalid_value", "`tokens` is missing"),
    ] {
        let reply = send(host.address, method, path, "", body.as_bytes());
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        let (found, message) = reply.error();
        assert_eq!(found, code, "{body}: {message}");
        assert!(message.contains(word), "{body}: {message}");
        if status == 405 {
            assert_eq!(reply.header("allow"), Some("POST"));
        }
    }
    assert_eq!(host.metric("terrace_handler_failures_total"), 0.0);
}

#[test]
fn a_prompt_may_fill_the_context_but_for_one_token() {
    let host = Host::start();
    let prompt = vec![7_u32; 4095];
    let body = json!({"prompt": [prompt], "max_tokens": 1, "logprobs": 1, "echo": true,
                      "temperature": 0});
    let reply = host.complete(&body);
    let tokens = reply["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len();
    assert_eq!(tokens, 4096);
}
