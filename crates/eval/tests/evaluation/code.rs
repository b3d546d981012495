//! What a program may do in the sandbox; skipped, and said so, where there is none.

use std::time::{Duration, Instant};

use terrace_eval::sandbox::{Limits, Sandbox};
use terrace_eval::{Outcome, Settings, run};

use crate::support::{Home, model};

fn sandbox() -> Option<Sandbox> {
    match Sandbox::new() {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

const LIMITS: Limits =
    Limits { time: Duration::from_secs(10), memory: 512 << 20, processes: 16, output: 1 << 16 };

#[test]
fn a_program_passes_if_it_runs_to_its_end() {
    let Some(sandbox) = sandbox() else { return };
    let outcome = |program: &str| sandbox.run(program, &LIMITS).unwrap();
    assert_eq!(outcome("x = '数'\nassert x == '数'\nprint(x)\n"), Outcome::Passed);
    let failed = |program: &str| match outcome(program) {
        Outcome::Failed(reason) => reason,
        other => panic!("{program}: {other:?}"),
    };
    assert!(failed("assert 1 == 2, 'no'\n").contains("AssertionError: no"));
    assert!(failed("def f(:\n").contains("SyntaxError"));
    failed("exit(0)\n");
    failed("import os\nos._exit(0)\n");
    // What a program prints does not say that it passed.
    failed("print('[end]')\nraise SystemExit\n");
}

#[test]
fn what_goes_on_for_ever_ends() {
    let Some(sandbox) = sandbox() else { return };
    let limits = Limits { time: Duration::from_secs(2), ..LIMITS };
    let begin = Instant::now();
    assert_eq!(sandbox.run("while True: pass\n", &limits).unwrap(), Outcome::TimedOut);
    let sleeper = "import time\ntime.sleep(60)\n";
    assert_eq!(sandbox.run(sleeper, &limits).unwrap(), Outcome::TimedOut);
    let writer = "while True: print('x' * 1000)\n";
    assert_eq!(sandbox.run(writer, &LIMITS).unwrap(), Outcome::TooMuchOutput);
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn forks_and_memory_are_bounded() {
    let Some(sandbox) = sandbox() else { return };
    let bomb = "\
import os, time
count = 0
try:
    while count < 1000:
        if os.fork() == 0:
            time.sleep(60)
        count += 1
except BlockingIOError:
    pass
assert count < 16, count
";
    assert_eq!(sandbox.run(bomb, &LIMITS).unwrap(), Outcome::Passed);
    let all_fork = "import os\nwhile True: os.fork()\n";
    let limits = Limits { time: Duration::from_secs(3), ..LIMITS };
    assert_ne!(sandbox.run(all_fork, &limits).unwrap(), Outcome::Passed);
    let memory = "x = bytearray(1 << 30)\n";
    match sandbox.run(memory, &LIMITS).unwrap() {
        Outcome::Failed(reason) => assert!(reason.contains("MemoryError"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_written_and_nobody_is_called() {
    let Some(sandbox) = sandbox() else { return };
    let home = Home::new();
    let target = home.path().join("written");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = format!(
        "\
import os, socket
for path in [{target:?}, '/written', '/etc/written', '/var/tmp/written', os.path.expanduser('~root/written')]:
    try:
        open(path, 'w').write('x')
    except OSError:
        continue
    raise AssertionError(path)
open('/tmp/written', 'w').write('x')
try:
    socket.create_connection(('127.0.0.1', {port}), timeout=1)
except OSError:
    pass
else:
    raise AssertionError('a socket was opened')
"
    );
    assert_eq!(sandbox.run(&program, &LIMITS).unwrap(), Outcome::Passed);
    assert!(!target.exists() && !std::path::Path::new("/tmp/written").exists());
    // The files of one program are gone before the next.
    let next = "import os\nassert not os.path.exists('/tmp/written')\n";
    assert_eq!(sandbox.run(next, &LIMITS).unwrap(), Outcome::Passed);
}

#[test]
fn programs_of_a_task_are_tried() {
    if sandbox().is_none() {
        return;
    }
    let home = Home::new();
    let (tokenizer, mut model) = (home.tokenizer(), model(64));
    home.write(
        "items.jsonl",
        "{\"p\": \"a\", \"n\": 1}\n{\"p\": \"b\", \"n\": 2}\n{\"p\": \"c\", \"n\": 1}\n",
    );
    let task = home.task(
        r#"name = "program"
form = "code"
metric = "pass@1"
prompt = "{{p}}"
generation = { max_new_tokens = 2 }
code = { program = "assert {{n}} == 1 # {{ completion | length }}" }
data = { items = ["items.jsonl"] }
"#,
    );
    let report = run(&Settings::new(vec![task], "m"), &mut model, &tokenizer, &mut ()).unwrap();
    let score = report.tasks[0].metrics["pass@1"];
    assert!((score.value - 2.0 / 3.0).abs() < 1e-12);
}
