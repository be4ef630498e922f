//! Registers a function for each of its arguments. Each returns a description of this process and its input.

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
