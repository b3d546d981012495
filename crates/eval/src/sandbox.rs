//! Programs that a model wrote, run where they can do no harm.
//!
//! A program runs in a bubblewrap sandbox: without network, with everything read-only but an empty
//! `/tmp` in memory, with its own process numbers, and with limits on memory, processes, file sizes,
//! processor time, time and output. Where there is no sandbox nothing runs.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Why no program is tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tool is not installed.
    #[error(
        "programs that a model wrote run only in a sandbox, and `{tool}` is not on the PATH; install \
         {package} (Debian: apt-get install {package})"
    )]
    Missing {
        /// The tool.
        tool: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// The tools are there, but the system does not let them work.
    #[error(
        "programs that a model wrote run only in a sandbox, and `bwrap` cannot make one here: {reason}; \
         the system has to allow unprivileged user namespaces (in a container, often an option of its start)"
    )]
    Refused {
        /// What it said.
        reason: String,
    },
    /// A program could not be started.
    #[error("the sandbox could not be started: {0}")]
    Start(#[from] io::Error),
}

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes of address space of each of its processes.
    pub memory: u64,
    /// Its processes and threads at any one time.
    pub processes: u64,
    /// Bytes on its output and on its error output, each.
    pub output: u64,
}

/// The most that a program may keep in its `/tmp`, and in one file.
const TEMPORARY_BYTES: u64 = 64 << 20;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// It ran to its end without an exception.
    Passed,
    /// It did not; the last line of what it said.
    Failed(String),
    /// It took too long.
    TimedOut,
    /// It wrote too much.
    TooMuchOutput,
}

impl Outcome {
    /// Whether it passed.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        *self == Self::Passed
    }
}

/// A sandbox that was seen to work.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Whether programs are to run as another user, as limits on processes do not hold for root.
    as_nobody: bool,
}

/// The user `nobody` of most systems.
const NOBODY: u32 = 65_534;

/// Runs a program from its standard input and says so at its end, in words that it is given.
const RUNNER: &str = "\
import sys
source = sys.stdin.buffer.read().decode()
end = sys.argv.pop()
exec(compile(source, 'program', 'exec'), {})
sys.stdout.flush()
sys.stdout.buffer.write(end.encode())
sys.stdout.buffer.flush()
";

impl Sandbox {
    /// Makes sure that programs can be run in a sandbox here, by running one.
    ///
    /// # Errors
    ///
    /// A tool is missing, or the system does not allow it.
    pub fn new() -> Result<Self, Error> {
        static SEEN: OnceLock<bool> = OnceLock::new();
        for (tool, package) in
            [("bwrap", "bubblewrap"), ("prlimit", "util-linux"), ("python3", "python3")]
        {
            if !is_on_path(tool) {
                return Err(Error::Missing { tool, package });
            }
        }
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        let sandbox = Self { as_nobody: is_root };
        if SEEN.get().is_none() {
            let limits = Limits {
                time: Duration::from_secs(20),
                memory: 1 << 30,
                processes: 16,
                output: 1 << 16,
            };
            match sandbox.run("pass\n", &limits)? {
                Outcome::Passed => {}
                Outcome::Failed(reason) => return Err(Error::Refused { reason }),
                other => return Err(Error::Refused { reason: format!("{other:?}") }),
            }
            let _ = SEEN.set(true);
        }
        Ok(sandbox)
    }

    /// Runs a Python program to its end or its limits; everything that it started ends with it.
    ///
    /// It passes if its last statement was reached without an exception: `exit()` on the way is none of
    /// the ways to pass.
    ///
    /// # Errors
    ///
    /// The sandbox could not be started.
    pub fn run(&self, program: &str, limits: &Limits) -> Result<Outcome, Error> {
        // What a program cannot know before it runs, so that it cannot say it by chance.
        let end = format!("\n[end {}]", terrace_base::Fingerprint::of_bytes(program.as_bytes()));
        let mut child = self.command(&end, limits).spawn()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let output = reader(child.stdout.take(), limits.output, &is_over);
        let errors = reader(child.stderr.take(), limits.output, &is_over);
        let writer = writer(&mut child, program.to_owned());
        let deadline = Instant::now() + limits.time;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() >= deadline || is_over.load(Ordering::Relaxed) {
                // The sandbox dies with the process that made it, and all within with the sandbox.
                child.kill()?;
                child.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let (output, errors) = (joined(output), joined(errors));
        let _ = writer.map(thread::JoinHandle::join);
        Ok(if is_over.load(Ordering::Relaxed) {
            Outcome::TooMuchOutput
        } else if status.is_none() {
            Outcome::TimedOut
        } else if status.is_some_and(|status| status.success()) && output.ends_with(&end) {
            Outcome::Passed
        } else {
            Outcome::Failed(last_line(&errors))
        })
    }

    fn command(&self, end: &str, limits: &Limits) -> Command {
        let mut command = Command::new("prlimit");
        let seconds = limits.time.as_secs() + 1;
        command
            .arg(format!("--as={}", limits.memory))
            .arg(format!("--fsize={TEMPORARY_BYTES}"))
            .arg(format!("--cpu={seconds}"))
            .args(["--core=0", "--nofile=256", "bwrap"])
            .args(["--unshare-all", "--die-with-parent", "--new-session", "--clearenv"])
            .args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"])
            .args(["--size", &TEMPORARY_BYTES.to_string(), "--tmpfs", "/tmp"])
            // What other processes leave in memory is nothing for a program.
            .args(["--size", "4096", "--tmpfs", "/run", "--chdir", "/tmp"])
            .args(["--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", "/tmp"])
            .args(["--setenv", "LANG", "C.UTF-8", "--setenv", "OMP_NUM_THREADS", "1"])
            // Within, where the processes of the same user outside do not count.
            .args(["prlimit", &format!("--nproc={}", limits.processes)])
            .args(["python3", "-I", "-B", "-c", RUNNER, end])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

fn is_on_path(tool: &str) -> bool {
    // The search path is the system's business, as it is when a command is started.
    let found = Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads up to `limit` bytes, and says so where there are more.
fn reader(
    from: Option<impl Read + Send + 'static>,
    limit: u64,
    is_over: &Arc<AtomicBool>,
) -> Option<thread::JoinHandle<Vec<u8>>> {
    let (from, is_over) = (from?, Arc::clone(is_over));
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        // The end that is said comes on top of what a program may write.
        let most = limit + 256;
        let _ = from.take(most + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > most {
            is_over.store(true, Ordering::Relaxed);
        }
        bytes
    }))
}

/// Hands the program over; a sandbox that has ended already does not take it.
fn writer(child: &mut Child, program: String) -> Option<thread::JoinHandle<()>> {
    let mut input = child.stdin.take()?;
    Some(thread::spawn(move || {
        let _ = input.write_all(program.as_bytes());
    }))
}

fn joined(reader: Option<thread::JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or_else(|| "it ended early".to_owned(), |line| line.chars().take(300).collect())
}
