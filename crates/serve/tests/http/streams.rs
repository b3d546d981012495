//! Streams: their pieces together are the whole.

use serde_json::{Value, json};

use crate::host::Host;

/// The text and the scores of one choice, put together from all pieces of its index.
fn joined(pieces: &[Value], index: usize) -> (String, Vec<Value>, Value) {
    let (mut text, mut scores, mut reason) = (String::new(), Vec::new(), Value::Null);
    for piece in pieces {
        for choice in piece["choices"].as_array().unwrap() {
            if choice["index"] != index {
                continue;
            }
            assert!(reason.is_null(), "nothing comes after the end");
            text.push_str(choice["text"].as_str().unwrap());
            if let Some(tokens) = choice["logprobs"]["tokens"].as_array() {
                for place in 0..tokens.len() {
                    let entry = |key: &str| choice["logprobs"][key][place].clone();
                    scores.push(json!([
                        entry("tokens"),
                        entry("token_logprobs"),
                        entry("top_logprobs"),
                        entry("text_offset")
                    ]));
                }
            }
            reason = choice["finish_reason"].clone();
        }
    }
    (text, scores, reason)
}

#[test]
fn pieces_together_are_the_whole() {
    let host = Host::start();
    for (echo, logprobs) in
        [(false, Value::Null), (true, Value::Null), (false, json!(2)), (true, json!(1))]
    {
        let mut body = json!({"prompt": ["数据 and", "x"], "max_tokens": 25, "temperature": 0,
                              "echo": echo, "logprobs": logprobs, "stop": ["Z"]});
        let whole = host.complete(&body);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let reply = host.post("/v1/completions", &body);
        assert_eq!(reply.status, 200);
        let pieces = reply.pieces();
        assert!(pieces.iter().all(|piece| piece["id"] == pieces[0]["id"]));
        for index in 0..2 {
            let (text, scores, reason) = joined(&pieces, index);
            let choice = &whole["choices"][index];
            assert_eq!(text, choice["text"].as_str().unwrap());
            assert_eq!(reason, choice["finish_reason"]);
            let (_, expected, _) = joined(std::slice::from_ref(&whole), index);
            assert_eq!(scores, expected);
        }
        assert_eq!(pieces.last().unwrap()["usage"], whole["usage"]);
    }
}

#[test]
fn a_stream_without_tokens_ends_as_well() {
    let host = Host::start();
    let body = json!({"prompt": "x", "max_tokens": 0, "stream": true});
    let pieces = host.post("/v1/completions", &body).pieces();
    assert_eq!(joined(&pieces, 0), (String::new(), Vec::new(), json!("length")));
}
