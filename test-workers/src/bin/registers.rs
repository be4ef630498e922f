//! Registers functions of the names that are its arguments. Each tells what this process is and was given.

use std::collections::BTreeMap;
use std::process::ExitCode;

use procpool_test_workers::start_watchdog;
use procpool_worker::Worker;
use serde_json::{Value, json};

fn main() -> ExitCode {
    start_watchdog();
    std::env::args().skip(1).fold(Worker::new(), |worker, name| worker.function(&name, |_: Value| about_me())).main()
}

fn about_me() -> Value {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    json!({
        "pid": std::process::id(),
        "directory": std::env::current_dir().unwrap_or_default(),
        "environment": environment,
    })
}
