//! Its function `leak` keeps so many bytes for ever and returns how many it has in all.

use std::process::ExitCode;

use procpool_test_workers::start_watchdog;
use procpool_worker::Worker;
use serde_json::Value;

fn main() -> ExitCode {
    start_watchdog();
    let mut leaked: Vec<Vec<u8>> = Vec::new();
    Worker::new()
        .function("echo", |item: Value| item)
        .function("leak", move |count: usize| {
            // Not zeros: those would take no memory.
            leaked.push(vec![1; count]);
            leaked.iter().map(Vec::len).sum::<usize>()
        })
        .main()
}
