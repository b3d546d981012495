//! `/v1/chat/completions`, with a template and without.

use serde_json::{Value, json};

use crate::bigram;
use crate::host::Host;

const TEMPLATE: &str = "{% for message in messages %}{{ message['role'] }}: \
    {{ message['content'].strip() }}\n{% endfor %}{% if add_generation_prompt %}model:{% endif %}";

fn host() -> Host {
    Host::with(|settings| settings.texts.chat_template = Some(TEMPLATE.to_owned()))
}

#[test]
fn a_chat_continues_what_its_template_writes() {
    let (host, model) = (host(), bigram::model());
    let chat = json!({
        "messages": [{"role": "system", "content": "Be brief."},
                     {"role": "user", "content": [{"type": "text", "text": " 你好 "}]}],
        "max_completion_tokens": 12, "temperature": 0, "logprobs": true, "top_logprobs": 2,
        "ignore_eos": true,
    });
    let reply = host.post("/v1/chat/completions", &chat);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = reply.json();
    let plain = host.complete(&json!({
        "prompt": "system: Be brief.\nuser: 你好\nmodel:", "max_tokens": 12, "temperature": 0,
        "ignore_eos": true,
    }));
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], plain["choices"][0]["text"]);
    assert_eq!(reply["usage"], plain["usage"]);
    let mut before = bigram::pieces().iter().position(|piece| piece == ":").unwrap() as u32;
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 12);
    for entry in content {
        let token = model.likeliest(before);
        assert_eq!(entry["token"], bigram::pieces()[token as usize].as_str());
        let exact = f64::from(model.log_probability(before, token));
        assert_eq!(entry["logprob"].as_f64(), Some(exact));
        assert_eq!(entry["top_logprobs"][0]["logprob"].as_f64(), Some(exact));
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 2);
        before = token;
    }

    let mut stream = chat;
    stream["stream"] = json!(true);
    let pieces = host.post("/v1/chat/completions", &stream).pieces();
    assert_eq!(pieces[0]["choices"][0]["delta"]["role"], "assistant");
    let deltas = pieces.iter().map(|piece| &piece["choices"][0]["delta"]["content"]);
    let text: String = deltas.filter_map(Value::as_str).collect();
    assert_eq!(choice["message"]["content"], text);
    assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_chat_without_a_limit_ends_by_itself_or_with_the_context() {
    let body = json!({"messages": [{"role": "user", "content": "x"}], "temperature": 0});
    let reply = host().post("/v1/chat/completions", &body).json();
    assert!(reply["usage"]["total_tokens"].as_u64().unwrap() <= 4096);
}

#[test]
fn what_is_no_conversation_is_refused() {
    let host = host();
    for (body, field) in [
        (json!({}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"content": "x"}]}), "messages[0]"),
        (json!({"messages": [{"role": "user", "content": 3}]}), "messages[0].content"),
    ] {
        let reply = host.post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 400, "{body}");
        reply.error();
        assert_eq!(reply.json()["error"]["param"], field);
    }
}

#[test]
fn without_a_template_the_client_is_told_where_to_go() {
    let body = json!({"messages": [{"role": "user", "content": "x"}]});
    let reply = Host::start().post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 400);
    let (code, message) = reply.error();
    assert_eq!(code, "no_chat_template");
    assert!(message.contains("/v1/completions"));
}
