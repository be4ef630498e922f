//! A pipe in, a pipe out.

use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::streams::peak_rss_kib;
use crate::support::{Server, pid_of, wait};

const LINES: u64 = 200_000;
const MEMORY_LIMIT_KIB: u64 = 64 << 10;

fn start(server: &Server, args: &[&str]) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut command = server.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    (child, stdin, BufReader::new(stdout))
}

/// Waits for a command that has nothing to say and is content.
fn expect_quiet_end(mut child: Child) {
    let stderr = child.stderr.take().unwrap();
    assert_eq!(wait(child).code(), Some(0));
    assert_eq!(std::io::read_to_string(stderr).unwrap(), "");
}

#[test]
fn a_long_pipe_stays_in_order_and_in_bounded_memory() {
    let server = Server::start(&["--processes", "2"]);
    let (child, stdin, stdout) = start(&server, &["imap", "--each-line", "-", "echo"]);
    let writer = std::thread::spawn(move || {
        let mut stdin = BufWriter::new(stdin);
        (0..LINES).for_each(|number| writeln!(stdin, "{number}").unwrap());
        stdin.into_inner().unwrap()
    });
    let mut lines = stdout.lines();
    for number in 0..LINES {
        assert_eq!(lines.next().unwrap().unwrap(), format!("\"{number}\""));
    }
    let stdin = writer.join().unwrap();
    let peak = peak_rss_kib(pid_of(&child));
    drop(stdin);
    assert!(lines.next().is_none());
    expect_quiet_end(child);
    println!("{LINES} lines through a pipe: peak RSS of the client {} MiB", peak.div_ceil(1024));
    assert!(peak <= MEMORY_LIMIT_KIB, "the client took {peak} KiB");
}

#[test]
fn each_result_is_there_before_the_next_line() {
    let server = Server::start(&["--processes", "2"]);
    for (format, expected) in [("values", "\"x\"\n"), ("json", "{\"index\":0,\"status\":\"ok\",\"result\":\"x\"}\n")] {
        let (child, mut stdin, mut stdout) = start(&server, &["imap", "--output", format, "--each-line", "-", "echo"]);
        stdin.write_all(b"x\n").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
        stdin.write_all(b"y").unwrap();
        drop(stdin);
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("\"y\""), "{line}");
        expect_quiet_end(child);
    }
}

#[test]
fn items_behind_the_last_that_is_wanted_are_not_waited_for() {
    let server = Server::start(&["--processes", "1"]);
    for option in ["--each-line", "--from-json", "--csv"] {
        let args = ["imap", option, "-", "--csv-no-header", "--only", "1", "echo"];
        let args = if option == "--csv" { args.to_vec() } else { [&args[..3], &args[4..]].concat() };
        let (child, mut stdin, mut stdout) = start(&server, &args);
        let (begin, line) = if option == "--from-json" { ("[", "\"x\",") } else { ("", "x\n") };
        stdin.write_all(begin.as_bytes()).unwrap();
        // Until nobody reads it any more.
        while stdin.write_all(line.repeat(1000).as_bytes()).is_ok() {}
        let mut results = String::new();
        stdout.read_line(&mut results).unwrap();
        assert!(results.contains("\"x\""), "{option}: {results}");
        expect_quiet_end(child);
    }
}

#[test]
fn a_reader_that_goes_away_is_noticed_before_the_next_result() {
    let server = Server::start(&["--processes", "1"]);
    for (command, input) in [("imap", "0\n100000000\n"), ("map", "100000000\n")] {
        let (child, mut stdin, mut stdout) = start(&server, &[command, "sleep_ms"]);
        stdin.write_all(input.as_bytes()).unwrap();
        if command == "imap" {
            stdout.read_line(&mut String::new()).unwrap();
        }
        drop(stdout);
        // The other pipe is still open, so this is no end of the items.
        expect_quiet_end(child);
        drop(stdin);
    }
    // Nothing of it is left on the server.
    server.run(&["map", "echo", "1", "--timeout", "30s"]).expect(0);
}
