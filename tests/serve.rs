//! `terrace serve` from the outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{repository, terrace};

/// A server and its address; it ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(model: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_terrace"))
            .args(["serve", model, "--port", "0", "--batch-invariant"])
            .env_remove("TERRACE_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let (_, rest) = line.split_once("http://").unwrap_or_else(|| panic!("{line}"));
        let address = rest.split('/').next().unwrap().to_owned();
        Self { child, address }
    }

    /// The status and the body of an answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: terrace\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_model_is_served_and_ends_in_good_order() {
    let base = repository().join("data/base").display().to_string();
    let mut server = Server::start(&base);
    assert_eq!(server.ask("GET", "/health", "").0, 200);
    let (_, models) = server.ask("GET", "/v1/models", "");
    assert_eq!(models["data"][0]["id"], "base");

    let prompt = "def add(a, b):";
    let generate = ["generate", &base, "--prompt", prompt, "--max-new-tokens", "8"];
    let own = terrace(generate.iter().chain(&["--batch-invariant", "--json"])).expect_code(0);
    let asked = json!({"prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 1});
    let (status, answer) = server.ask("POST", "/v1/completions", &asked.to_string());
    assert_eq!((status, &answer["choices"][0]["text"]), (200, &own.json()["text"]));
    let scores = answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(scores.len(), 8);
    let (status, refused) = server.ask("POST", "/v1/completions", "{\"prompt\": 3}");
    assert_eq!(status, 400, "{refused}");
    assert!(refused["error"]["message"].is_string(), "{refused}");

    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_served_is_said() {
    let base = repository().join("data/base").display().to_string();
    let long = terrace(["serve", &base, "--context", "1000000"]).expect_code(2);
    assert!(long.stderr.contains("--context"), "{long}");
    let nothing = terrace(["serve", "configs"]).expect_code(2);
    assert!(nothing.stderr.contains("neither a Hugging Face folder nor a run"), "{nothing}");
}
