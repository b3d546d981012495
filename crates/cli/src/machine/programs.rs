//! Asking another program something.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::environment::Environment;

/// A broken driver can hang the tool that asks it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a program and returns what it writes to stdout.
///
/// # Errors
///
/// It is not there, fails, or does not answer in ten seconds.
pub(crate) fn output(
    environment: &Environment,
    name: &str,
    arguments: &[&str],
) -> Result<String, String> {
    let path = environment.find_program(name).ok_or_else(|| format!("{name} is not there"))?;
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        // The receiver is gone if the answer came too late.
        let _ = sender.send(read.map(|_| text));
    });
    let Ok(answer) = receiver.recv_timeout(PATIENCE) else {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{name} does not answer"));
    };
    let status = child.wait().map_err(|error| format!("{name} got lost: {error}"))?;
    match answer {
        Ok(text) if status.success() => Ok(text),
        Ok(_) => Err(format!("{name} fails ({status})")),
        Err(error) => Err(format!("{name} cannot be understood: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_answer_or_say_why_not() {
        let environment = Environment::capture();
        assert_eq!(output(&environment, "echo", &["12"]).unwrap().trim(), "12");
        assert!(output(&environment, "false", &[]).unwrap_err().contains("fails"));
        let missing = output(&environment, "no-such-program-at-all", &[]);
        assert_eq!(missing.unwrap_err(), "no-such-program-at-all is not there");
    }
}
