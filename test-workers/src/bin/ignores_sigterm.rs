//! Ignores SIGTERM; its function `hang` never returns.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use procpool_test_workers::start_watchdog;
use procpool_worker::Worker;
use serde_json::Value;

const IGNORING: &str = "ignoring";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some(IGNORING) {
        return become_ignoring();
    }
    start_watchdog();
    Worker::new()
        .function("echo", |item: Value| item)
        .function("hang", |_: Value| -> () {
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        })
        .main()
}

/// Runs this program again under a shell that ignores SIGTERM: this is inherited and needs no unsafe code.
#[expect(clippy::disallowed_methods, reason = "it becomes another program and starts none")]
fn become_ignoring() -> ExitCode {
    let Ok(program) = std::env::current_exe() else { return ExitCode::FAILURE };
    // It returns only if it fails.
    let _error =
        Command::new("/bin/sh").args(["-c", r#"trap "" TERM; exec "$0" "$1""#]).arg(program).arg(IGNORING).exec();
    ExitCode::FAILURE
}
