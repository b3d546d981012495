//! Serves a model whose every probability is known, for checks with real clients.
//!
//! `cargo run -p terrace-serve --example bigram -- FOLDER [PORT]` writes `tokenizer.json` and
//! `table.json` (pieces, and log-probabilities by the token before) to FOLDER, prints the address
//! once it listens, and serves until it is killed.

#[path = "../tests/http/bigram.rs"]
mod bigram;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use serde_json::json;
use terrace_serve::{Settings, Shutdown, run};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: bigram FOLDER [PORT]")?);
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    std::fs::create_dir_all(&folder)?;
    let (model, tokenizer) = (bigram::model(), bigram::tokenizer(&folder));
    let pieces = bigram::pieces();
    let ids = 0..u32::try_from(pieces.len())?;
    let row = |before: u32| -> Vec<f64> {
        ids.clone().map(|next| f64::from(model.log_probability(before, next))).collect()
    };
    let rows: Vec<Vec<f64>> = ids.clone().map(row).collect();
    let table = json!({"pieces": pieces, "log_probabilities": rows});
    terrace_base::fs::write_atomic(&folder.join("table.json"), table.to_string().as_bytes())?;

    let mut settings = Settings::new("bigram");
    settings.address.set_port(port);
    settings.texts.chat_template = Some(
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n\
         {% endfor %}assistant:"
            .to_owned(),
    );
    let ready = |address| {
        let mut out = std::io::stdout();
        writeln!(out, "http://{address}").and_then(|()| out.flush()).expect("an open stdout");
    };
    run(settings, Box::new(model), tokenizer, &Shutdown::new(), ready)?;
    Ok(())
}
