//! Its function `leak` leaks the given number of bytes and returns the total; `leak_and_wait` does not return.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

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
        .function("leak_and_wait", |count: usize| -> () {
            let _kept = vec![1_u8; count];
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        })
        .main()
}
