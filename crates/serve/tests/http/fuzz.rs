//! Whatever is sent, nothing panics and nothing is the server's fault.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::client::send;
use crate::host::Host;

const ROUTES: [&str; 4] = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"];
const FIELDS: [&str; 22] = [
    "prompt",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "echo",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "suffix",
    "logit_bias",
    "presence_penalty",
    "ignore_eos",
    "tokens",
    "add_special_tokens",
    "x",
];

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        Host::with(|settings| {
            let template = "{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}";
            settings.texts.chat_template = Some(template.to_owned());
        })
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0..130_u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[a-z 数据\\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,6}", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// What a field ought to hold, so that some requests get far.
fn likely(field: &'static str) -> BoxedStrategy<Value> {
    match field {
        "prompt" => prop_oneof![
            "\\PC{0,20}".prop_map(Value::from),
            prop::collection::vec(0..120_u32, 0..9).prop_map(|ids| json!(ids)),
            prop::collection::vec("[a-z数]{0,5}", 0..4).prop_map(|texts| json!(texts)),
        ]
        .boxed(),
        "messages" => prop::collection::vec("\\PC{0,9}", 0..3)
            .prop_map(|texts| {
                texts.iter().map(|text| json!({"role": "user", "content": text})).collect()
            })
            .boxed(),
        "max_tokens" | "max_completion_tokens" => (0..9_u32).prop_map(Value::from).boxed(),
        "temperature" | "top_p" => (-0.5..3.0).prop_map(|x: f64| json!(x)).boxed(),
        "stop" => prop::collection::vec("\\PC{0,2}", 0..6).prop_map(|texts| json!(texts)).boxed(),
        "echo" | "stream" | "ignore_eos" => any::<bool>().prop_map(Value::from).boxed(),
        "logprobs" | "n" => (0..3_u32).prop_map(Value::from).boxed(),
        "tokens" => prop::collection::vec(0..120_u32, 0..9).prop_map(|ids| json!(ids)).boxed(),
        _ => any_json().boxed(),
    }
}

fn request() -> impl Strategy<Value = Value> {
    let field = prop::sample::select(&FIELDS[..]);
    let entry = field.prop_flat_map(|field| {
        let value = prop_oneof![5 => likely(field), 1 => any_json()];
        value.prop_map(move |value| (field.to_owned(), value))
    });
    let prompt = likely("prompt");
    (prompt, prop::collection::vec(entry, 0..8)).prop_map(|(prompt, entries)| {
        let mut fields: Map<String, Value> = entries.into_iter().collect();
        fields.entry("prompt").or_insert(prompt);
        Value::Object(fields)
    })
}

/// Every status but those of clients' faults and of success is a failure.
fn harmless(route: &str, body: &[u8]) -> Result<u16, TestCaseError> {
    let reply = send(host().address, "POST", route, "", body);
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let fine = matches!(reply.status, 200 | 400 | 404 | 413);
    prop_assert!(fine, "{} for {}: {text}", reply.status, String::from_utf8_lossy(body));
    if reply.status != 200 {
        reply.error();
    }
    prop_assert!(!text.contains("server_error"), "{text}");
    Ok(reply.status)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_fields_are_answered_or_refused(route in 0..4_usize, body in request()) {
        harmless(ROUTES[route], body.to_string().as_bytes())?;
    }

    #[test]
    fn any_json_is_answered_or_refused(route in 0..4_usize, body in any_json()) {
        harmless(ROUTES[route], body.to_string().as_bytes())?;
    }

    #[test]
    fn any_bytes_are_refused(route in 0..4_usize, body in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(harmless(ROUTES[route], &body)?, 400);
    }

    #[test]
    fn any_cut_is_refused(body in request(), share in 0.0..1.0_f64) {
        let text = body.to_string();
        let cut = (text.len() as f64 * share) as usize;
        prop_assert_eq!(harmless(ROUTES[0], &text.as_bytes()[..cut])?, 400);
    }
}

#[test]
fn depth_and_size_of_numbers_do_no_harm() {
    for body in [
        format!("{{\"x\": {}", "[".repeat(200_000)),
        format!("{{\"prompt\": {}", "[".repeat(200_000)),
        format!("{{\"x\": {}{}}}", "[".repeat(200_000), "]".repeat(200_000)),
        "{\"prompt\": \"a\", \"temperature\": 1e999}".to_owned(),
        "{\"prompt\": \"a\", \"temperature\": 1e300, \"max_tokens\": 3}".to_owned(),
        "{\"prompt\": \"a\", \"top_p\": 1e-300, \"max_tokens\": 3}".to_owned(),
        "{\"prompt\": \"a\", \"temperature\": 1e-300, \"max_tokens\": 3}".to_owned(),
        "{\"prompt\": \"a\", \"max_tokens\": 18446744073709551615}".to_owned(),
        "{\"prompt\": [\"a\", \"b\"], \"max_tokens\": 18446744073709551615}".to_owned(),
        "{\"prompt\": \"a\", \"seed\": 170141183460469231731687303715884105727}".to_owned(),
        "{\"prompt\": \"\\ud800\"}".to_owned(),
        "{\"prompt\": \"\\u0000\", \"prompt\": \"a\"}".to_owned(),
    ] {
        harmless(ROUTES[0], body.as_bytes()).unwrap();
    }
    assert_eq!(host().get("/health").status, 200);
    assert_eq!(host().metric("terrace_handler_failures_total"), 0.0);
}
