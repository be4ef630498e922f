//! Wrong usage: what it says and with which code it ends. No server is needed.

use crate::support::{Outcome, run, run_with_bytes};

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
    insta::assert_snapshot!(complaint(&["map", "f", "-"], "1\n[36893488147419103232]\n"), @"procpool: 36893488147419103232 in line 2 of stdin is beyond 64 bits, which no number keeps: make it a string");
    insta::assert_snapshot!(complaint(&["map", "f", "--from-json", "-"], "[1,36893488147419103232]"), @"procpool: 36893488147419103232 in item 1 of stdin is beyond 64 bits, which no number keeps: make it a string");
    insta::assert_snapshot!(complaint(&["map", "f", "-"], "1\n[2\n"), @"procpool: line 2 of stdin is not JSON: EOF while parsing a list at column 2");
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--timeout", "5"], ""), @"error: invalid value '5' for '--timeout <DURATION>': a duration is a number and a unit (us, ms, s, min, h or d), such as 30s or 500ms");
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--chunk-size", "0"], ""), @"error: invalid value '0' for '--chunk-size <N>': it must be at least 1");
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--server", "nowhere"], ""), @r#"procpool: "nowhere" is no address of a server: the port is missing; use http://HOST:PORT, HOST:PORT or unix:PATH"#);
    insta::assert_snapshot!(complaint(&["apply", "f", "--kwarg", "novalue"], ""), @r#"procpool: "novalue" is no keyword argument: it is NAME=VALUE"#);
    insta::assert_snapshot!(complaint(&["serve", "--listen", "nowhere"], ""), @"error: invalid value 'nowhere' for '--listen <ADDRESS>': not an address: use IP:PORT, localhost:PORT or unix:PATH");
    insta::assert_snapshot!(complaint(&["imap", "f", "1", "--window", "some"], ""), @"error: invalid value 'some' for '--window <N>': it is no whole number from 1 to 4294967295");
    insta::assert_snapshot!(complaint(&["resize", "0"], ""), @"error: invalid value '0' for '<N>': it must be at least 1");
    insta::assert_snapshot!(complaint(&["serve", "--processes", "1", "python", "-m", "procpool.worker", "f.py"], ""), @"error: unexpected argument 'python'; the command of a worker must follow --:");
    insta::assert_snapshot!(complaint(&["serve", "--procesess", "1"], ""), @"error: unexpected argument '--procesess' found");
    insta::assert_snapshot!(complaint(&["serve", "--processes", "0"], ""), @"error: invalid value '0' for '--processes <N>': must be more than 0");
}

#[test]
fn wrong_usage_of_a_command_shows_that_command() {
    let Outcome { stderr, .. } = run(&["serve", "python", "-m", "procpool.worker", "f.py"], "").expect(2);
    assert!(stderr.contains("\nUsage: procpool serve [OPTIONS] [-- <COMMAND>...]\n"), "{stderr}");
}

#[test]
fn a_list_that_is_none_says_where() {
    for (args, stdin, expected) in [
        ("--each-line -", &b"a\nb\xff\n"[..], "line 2 of stdin is not UTF-8, from its byte 2; iconv can convert it"),
        ("--each-line /no/such", b"", "cannot read /no/such: No such file or directory (os error 2)"),
        ("--each-line /tmp", b"", "cannot read /tmp: is a directory"),
        ("--from-json -", b"", "stdin is not a JSON array: EOF while parsing a value at line 1 column 0"),
        ("--from-json -", b"[1,\n2", "stdin is not a JSON array: EOF while parsing a list at line 2 column 1"),
        ("--from-json -", b"[1,\n2,]", "stdin is not a JSON array: trailing comma at line 2 column 3"),
        ("--from-json -", b"[1]\n2", "stdin is not a JSON array: trailing characters at line 2 column 1"),
        (
            "--from-json -",
            b"{}",
            "stdin is not a JSON array: invalid type: map, expected an array (for one JSON value a line there is --file) \
             at line 1 column 1",
        ),
        (
            "--csv -",
            b"\"a,b\n1,2\n",
            "cannot read stdin as CSV: the quote in line 1 is never closed, so that the rest would be one field",
        ),
        (
            "--csv -",
            b"a,b\n1,\"2\n3,4\n",
            "cannot read stdin as CSV: the quote in line 2 is never closed, so that the rest would be one field",
        ),
        ("--csv -", b"a,b\n1,2\n\n3\n", "item 1 of stdin (line 3 or below) has 1 field(s) instead of 2"),
        (
            "--csv -",
            b"a,b\n1,\xff\n",
            "item 0 of stdin (line 2 or below) is not UTF-8, in its field 2; iconv can convert it",
        ),
        (
            "--csv -",
            b"a,b,a\n",
            "the header of stdin has \"a\" twice; with --csv-no-header, a record is a list of its fields",
        ),
        (
            "--only 1,7 5..9",
            b"",
            "--only names item 7, but the list has 5 items, counted from 0; is it the right list?",
        ),
        ("--retry-failed /no/such 1", b"", "cannot read /no/such: No such file or directory (os error 2)"),
    ] {
        let mut args: Vec<&str> = args.split(' ').collect();
        args.splice(0..0, ["map", "f"]);
        let outcome = run_with_bytes(&args, stdin).expect(2);
        assert_eq!((outcome.stdout, outcome.stderr), (String::new(), format!("procpool: {expected}\n")), "{args:?}");
    }
}

#[test]
fn a_list_comes_from_one_place() {
    let ways = [["--each-line", "x"], ["--from-json", "x"], ["--csv", "x"], ["--file", "x"], ["--", "1"]];
    for (first, second) in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4)] {
        let args = [&["map", "f"][..], &ways[first], &ways[second]].concat();
        let complaint = complaint(&args, "");
        assert!(complaint.contains(ways[first][0]) && complaint.contains("cannot be used with"), "{complaint}");
    }
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--csv-numbers"], ""), @"procpool: --csv-no-header and --csv-numbers say what a CSV file is like: give it with --csv FILE");
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--only", "3-2"], ""), @r#"error: invalid value '3-2' for '--only <INDEXES>': "3-2" is no index or range; 3,8-10,20- is 3, 8 to 10, and 20 to the end"#);
    insta::assert_snapshot!(complaint(&["map", "f", "1", "--index", "--output", "json"], ""), @"error: the argument '--index' cannot be used with '--output <FORMAT>'");
    for args in [&["starmap", "f"][..], &["imap", "--star", "f"]] {
        let complaint = complaint(&[args, &["--each-line", "-"]].concat(), "");
        assert!(complaint.starts_with("procpool: a line is one string, and here an item is a list"), "{complaint}");
    }
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
