//! Exits with code 3 before it sends Hello.

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "what a program says before it fails")]
fn main() -> ExitCode {
    eprintln!("cannot start: no such database");
    ExitCode::from(3)
}
