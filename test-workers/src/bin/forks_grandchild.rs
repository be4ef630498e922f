//! Its function `fork` leaves a process in its group that holds stdout and stderr open.

use std::process::ExitCode;

use procpool_test_workers::{Session, be_grandchild_if_asked, spawn_grandchild, start_watchdog};
use procpool_worker::Worker;
use rustix::process::Signal;
use serde_json::Value;

fn main() -> ExitCode {
    be_grandchild_if_asked();
    start_watchdog();
    Worker::new()
        .function("echo", |item: Value| item)
        .try_function("fork", |_: Value| spawn_grandchild(Session::Same))
        .try_function("crash", |_: Value| rustix::process::kill_process(rustix::process::getpid(), Signal::KILL))
        .main()
}
