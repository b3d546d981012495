//! Keys, sizes, queues, time, clients that go away, and the end.

use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{open, read, send};
use crate::host::Host;

const SLOW: Duration = Duration::from_millis(20);

/// A request that takes some seconds of the slow model.
fn long(stream: bool) -> Value {
    json!({"prompt": "x", "max_tokens": 400, "temperature": 0, "stream": stream,
           "ignore_eos": true})
}

fn begin(host: &Host, body: &Value) -> TcpStream {
    open(host.address, "POST", "/v1/completions", "", body.to_string().as_bytes())
}

#[test]
fn a_key_is_asked_for_where_there_is_one() {
    let host = Host::with(|settings| settings.api_key = Some("s3cret".to_owned()));
    let status = |headers: &str| send(host.address, "GET", "/v1/models", headers, b"").status;
    assert_eq!(status("Authorization: Bearer s3cret\r\n"), 200);
    for headers in [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer s3cre\r\n",
        "Authorization: Bearer s3cretx\r\n",
        "Authorization: Basic s3cret\r\n",
        "Authorization: \u{fc}\r\n",
    ] {
        assert_eq!(status(headers), 401, "{headers}");
    }
    let refused = host.get("/tokenizer_info");
    assert_eq!(refused.error().0, "invalid_api_key");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(host.get("/health").status, 200, "how it is may be asked by everyone");
}

#[test]
fn without_a_key_an_empty_one_is_accepted() {
    let host = Host::start();
    for headers in ["Authorization: Bearer \r\n", "Authorization: Bearer\r\n", ""] {
        let body = br#"{"prompt": "a", "max_tokens": 1}"#;
        let reply = send(host.address, "POST", "/v1/completions", headers, body);
        assert_eq!(reply.status, 200);
    }
}

#[test]
fn an_oversized_body_is_refused_and_its_sender_reads_why() {
    let host = Host::with(|settings| settings.limits.body_bytes = 10_000);
    let body = json!({"prompt": "x".repeat(2_000_000)}).to_string();
    let reply = send(host.address, "POST", "/v1/completions", "", body.as_bytes());
    assert_eq!(reply.status, 413);
    assert_eq!(reply.error().0, "body_too_large");
    let announced = "Content-Length: 99999999999\r\n";
    let mut stream = TcpStream::connect(host.address).unwrap();
    let head = format!("POST /tokenize HTTP/1.1\r\nHost: x\r\n{announced}\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    assert_eq!(read(stream).status, 413);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let host = Host::with(|settings| {
        settings.limits.receive_time = Duration::from_millis(200);
        settings.limits.idle_time = Duration::from_millis(300);
    });
    let mut stream = TcpStream::connect(host.address).unwrap();
    let head = "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{";
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    assert_eq!(read(stream).status, 408);
    // Nor is a head.
    let mut stream = TcpStream::connect(host.address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /hea").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn a_full_queue_says_try_again() {
    let host = Host::over(SLOW, None, |settings| settings.limits.queue = 2);
    let held = [begin(&host, &long(false)), begin(&host, &long(true))];
    host.wait("a full queue", |host| host.metric("terrace_queue_length") == 2.0);
    let body = json!({"prompt": "a", "max_tokens": 1});
    let reply = host.post("/v1/completions", &body);
    assert_eq!(reply.status, 429);
    assert_eq!(reply.error().0, "queue_full");
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    drop(held);
    host.wait("room", |host| host.post("/v1/completions", &body).status == 200);
    let many = host.post("/v1/completions", &json!({"prompt": ["a", "b", "c"]}));
    assert_eq!(many.status, 400, "it would never fit");
}

#[test]
fn a_request_of_too_many_tokens_is_refused() {
    let host = Host::with(|settings| settings.limits.tokens = 8000);
    let body = |prompts: usize| json!({"prompt": vec!["a"; prompts], "max_tokens": 3000});
    assert_eq!(host.post("/v1/completions", &body(2)).status, 200);
    let reply = host.post("/v1/completions", &body(3));
    assert_eq!(reply.status, 400);
    assert!(reply.error().1.contains("8000"));
}

#[test]
fn who_goes_away_is_no_longer_worked_for() {
    let host = Host::over(SLOW, None, |_| ());
    for stream in [false, true] {
        let connection = begin(&host, &long(stream));
        host.wait("work", |host| host.pending.load(Ordering::SeqCst) == 1);
        drop(connection);
        let gone = Instant::now();
        host.wait("an end", |host| host.pending.load(Ordering::SeqCst) == 0);
        assert!(gone.elapsed() < Duration::from_secs(4), "400 steps would take 8 seconds");
    }
    host.wait("counts", |host| host.metric("terrace_cancelled_total") == 2.0);
    assert_eq!(host.metric("terrace_queue_length"), 0.0);
    let gone = "terrace_requests_total{route=\"/v1/completions\",status=\"499\"}";
    assert_eq!(host.metric(gone), 1.0, "the stream had its status already");
}

#[test]
fn an_answer_that_takes_too_long_ends() {
    let host = Host::over(SLOW, None, |settings| {
        settings.limits.answer_time = Duration::from_millis(300);
    });
    let reply = host.post("/v1/completions", &long(false));
    assert_eq!(reply.status, 504);
    assert_eq!(reply.error().0, "timeout");
    let stream = host.post("/v1/completions", &long(true)).text();
    assert!(stream.contains("\"timeout\"") && !stream.contains("[DONE]"), "{stream}");
    host.wait("an end", |host| host.pending.load(Ordering::SeqCst) == 0);
}

#[test]
fn what_is_under_way_may_end_and_nothing_new_begins() {
    let mut host = Host::over(SLOW, None, |_| ());
    let body = json!({"prompt": "x", "max_tokens": 30, "temperature": 0, "ignore_eos": true});
    let whole = begin(&host, &body);
    host.wait("work", |host| host.pending.load(Ordering::SeqCst) == 1);
    host.stop();
    let reply = read(whole);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["usage"]["completion_tokens"], 30);
    assert!(TcpStream::connect(host.address).is_err());
}

#[test]
fn the_end_has_a_deadline() {
    let mut host = Host::over(SLOW, None, |settings| {
        settings.limits.shutdown_time = Duration::from_millis(300);
    });
    let connection = begin(&host, &long(false));
    host.wait("work", |host| host.pending.load(Ordering::SeqCst) == 1);
    let begun = Instant::now();
    host.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "400 steps would take 8 seconds");
    drop(connection);
}
