//! Wrong usage: what it says and with which code it ends. No server is needed.

use crate::support::{Outcome, run};

/// Runs a command that is wrong; returns the first line that it says.
fn complaint(args: &[&str], stdin: &str) -> String {
    let Outcome { stdout, stderr, .. } = run(args, stdin).expect(2);
    assert_eq!(stdout, "");
    stderr.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn wrong_usage_says_what_is_wrong() {
    insta::assert_snapshot!(complaint(&["mpa"], ""), @"error: unrecognized subcommand 'mpa'");
    insta::assert_snapshot!(complaint(&["map"], ""), @"error: the following required arguments were not provided:");
    insta::assert_snapshot!(complaint(&["map", "f", "text"], ""), @r#"procpool: "text" is not JSON (expected ident at column 2); a string needs its quotes: '"…"'"#);
    insta::assert_snapshot!(complaint(&["map", "f", "5..1"], ""), @r#"procpool: the range "5..1" is empty or too large; 1..10 is 1 to 10"#);
    insta::assert_snapshot!(complaint(&["map", "f", "@/no/such/file"], ""), @"procpool: cannot read /no/such/file: No such file or directory (os error 2)");
    insta::assert_snapshot!(complaint(&["map", "f", "-"], "1\n[2\n"), @"procpool: line 2 of stdin is not JSON: EOF while parsing a list at column 2");
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--timeout", "5"], ""), @"error: invalid value '5' for '--timeout <DURATION>': a duration is a number and a unit (us, ms, s, min, h or d), such as 30s or 500ms");
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--chunk-size", "0"], ""), @"error: invalid value '0' for '--chunk-size <N>': number would be zero for non-zero type");
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--server", "nowhere"], ""), @r#"procpool: "nowhere" is no address of a server: the port is missing; use http://HOST:PORT, HOST:PORT or unix:PATH"#);
    insta::assert_snapshot!(complaint(&["apply", "f", "--kwarg", "novalue"], ""), @r#"procpool: "novalue" is no keyword argument: it is NAME=VALUE"#);
    insta::assert_snapshot!(complaint(&["serve", "--listen", "nowhere"], ""), @"error: invalid value 'nowhere' for '--listen <ADDRESS>': not an address: use IP:PORT or unix:PATH");
    insta::assert_snapshot!(complaint(&["serve", "--processes", "0"], ""), @"error: invalid value '0' for '--processes <N>': must be more than 0");
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    // Nothing listens on port 1.
    let outcome = run(&["map", "--server", "127.0.0.1:1", "f", "1"], "").expect(3);
    assert_eq!(outcome.stderr, "procpool: no server answers at 127.0.0.1:1: Connection refused (os error 111)\n");
    run(&["health", "--server", "unix:/no/such.sock"], "").expect(3);
}

#[test]
fn an_address_that_is_taken_fails_the_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let outcome = run(&["serve", "--listen", &address], "").expect(4);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains(&format!("cannot listen on http://{address}")), "{outcome:#?}");
}

#[test]
fn a_worker_without_a_server_says_so() {
    let outcome = run(&["worker"], "");
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("PROCPOOL_FD"), "{outcome:#?}");
}
