//! Its function `flood` writes the given number of bytes to stderr and to stdout, without a newline; `flood_lines` the
//! given number of lines.

use std::io::Write;
use std::process::ExitCode;

use procpool_test_workers::start_watchdog;
use procpool_worker::Worker;
use serde_json::Value;

fn main() -> ExitCode {
    start_watchdog();
    Worker::new()
        .function("echo", |item: Value| item)
        .try_function("flood", |count: usize| {
            let piece = vec![b'x'; 64 << 10];
            let mut rest = count;
            while rest > 0 {
                let length = rest.min(piece.len());
                std::io::stderr().write_all(&piece[..length])?;
                std::io::stdout().write_all(&piece[..length])?;
                rest -= length;
            }
            std::io::stdout().flush()
        })
        .try_function("flood_lines", |count: usize| {
            (0..count).try_for_each(|index| writeln!(std::io::stderr(), "line {index}"))
        })
        .main()
}
