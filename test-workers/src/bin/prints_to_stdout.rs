//! Prints all kinds of things to stdout and stderr, at its start and for every item.

use std::io::Write;
use std::process::ExitCode;

use procpool_test_workers::start_watchdog;
use procpool_worker::Worker;
use serde_json::Value;

fn main() -> ExitCode {
    start_watchdog();
    print_oddities();
    Worker::new()
        .function("echo", |item: Value| {
            print_oddities();
            item
        })
        .main()
}

/// Prints a line, control characters, bytes like a frame, bytes that are not UTF-8, and half a line.
fn print_oddities() {
    let oddities = b"a line\n\x1b[31mred\x1b[0m\x07\rover\n\x00\x00\x00\x02\x32\x00\n\xff\xfe\n\nhalf a line";
    // The test may have closed the pipes.
    let _ = std::io::stdout().write_all(oddities);
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().write_all(oddities);
}
