//! Its function `fork` leaves a process in a session of its own, out of reach of signals to its group.

use std::process::ExitCode;

use procpool_test_workers::{Session, be_grandchild_if_asked, spawn_grandchild, start_watchdog};
use procpool_worker::{Function, Worker};
use rustix::process::Signal;
use serde_json::Value;

fn main() -> ExitCode {
    be_grandchild_if_asked();
    start_watchdog();
    Worker::new()
        .function("echo", |item: Value| item)
        .register(
            Function::fallible("fork", |_: Value| spawn_grandchild(Session::New))
                .example(r#"{"function":"fork","values":[1]}"#),
        )
        .try_function("crash", |_: Value| rustix::process::kill_process(rustix::process::getpid(), Signal::KILL))
        .main()
}
