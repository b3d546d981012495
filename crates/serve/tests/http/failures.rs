//! A model that fails: who waits is told, and so is who asks how the server is.

use std::time::Duration;

use serde_json::json;

use crate::host::{Fault, Host};

#[test]
fn a_model_that_fails_answers_500_and_the_server_is_unhealthy() {
    for (fault, word) in [
        (Fault::Panic, "a panic that was asked for"),
        (Fault::Error, "out of memory"),
        (Fault::Nothing, "unanswered"),
        (Fault::NotANumber, "not a number"),
    ] {
        let host = Host::over(Duration::ZERO, Some(fault), |_| ());
        let body = json!({"prompt": "a", "max_tokens": 3, "temperature": 0, "ignore_eos": true});
        let reply = host.post("/v1/completions", &body);
        assert_eq!(reply.status, 500, "{fault:?}");
        let (code, message) = reply.error();
        assert_eq!(code, "model_failed");
        assert!(message.contains(word), "{fault:?}: {message}");
        assert_eq!(host.metric("terrace_model_failures_total"), 1.0);
        assert_eq!(host.metric("terrace_model_healthy"), 0.0);
        assert_eq!(host.metric("terrace_queue_length"), 0.0);
        assert_eq!(host.get("/health").status, 503);
        assert_eq!(host.post("/v1/completions", &body).status, 500, "and goes on saying so");
        assert_eq!(host.post("/tokenize", &json!({"prompt": "a"})).status, 200);
    }
}

#[test]
fn a_stream_says_why_it_ends() {
    let host = Host::over(Duration::ZERO, Some(Fault::Error), |_| ());
    let body = json!({"prompt": "a", "max_tokens": 3, "stream": true});
    let text = host.post("/v1/completions", &body).text();
    assert!(text.contains("model_failed") && !text.contains("[DONE]"), "{text}");
}
