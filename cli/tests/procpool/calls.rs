//! The commands that call, against a real server with the built-in worker.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::support::{Server, pid_of, procpool, wait};

#[test]
fn results_come_in_order_as_json_lines() {
    let server = Server::start(&["--processes", "2"]);
    assert_eq!(server.run(&["map", "is_prime", "1..5"]).expect(0).stdout, "false\ntrue\ntrue\nfalse\ntrue\n");
    assert_eq!(server.run(&["starmap", "power", "[2,10]", "[3,3]"]).expect(0).stdout, "1024\n27\n");
    assert_eq!(server.run(&["apply", "power", "2", "10"]).expect(0).stdout, "1024\n");
    assert_eq!(server.run(&["imap", "--star", "power", "[2,10]", "[3,3]"]).expect(0).stdout, "1024\n27\n");
    assert_eq!(
        server.run(&["map", "echo", "null", "1.5", "\"x\"", "[{}]"]).expect(0).stdout,
        "null\n1.5\n\"x\"\n[{}]\n"
    );
    let matches = server.run(&["map", "analyze_match", "3..4"]).expect(0);
    assert_eq!(matches.values(), [3, 4].map(|id| json!(format!("Result for Match #{id}: Analysis Clear"))));
}

#[test]
fn items_come_from_arguments_files_and_stdin() {
    let server = Server::start(&["--processes", "2"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items");
    std::fs::write(&file, "10\n\n11\n").unwrap();
    let file = file.to_str().unwrap();
    let mixed = server.run_with_stdin(&["map", "echo", "1..2", &format!("@{file}"), "-", "--file", file], "20\n");
    assert_eq!(mixed.expect(0).values(), [1, 2, 10, 11, 20, 10, 11]);
    let lines: String = (1..=5000).flat_map(|number: u32| [number.to_string(), "\n".to_owned()]).collect();
    let echoed = server.run_with_stdin(&["imap", "echo"], &lines).expect(0);
    assert_eq!(echoed.stdout, lines);
    assert_eq!(server.run(&["map", "echo"]).expect(0).stdout, "");
    assert_eq!(server.run(&["imap", "echo"]).expect(0).stdout, "");
}

#[test]
fn unordered_results_come_as_they_finish() {
    let server = Server::start(&["--processes", "2"]);
    let args = ["imap", "sleep_ms", "--unordered", "--index", "--chunk-size", "1", "600", "0"];
    let outcome = server.run(&args).expect(0);
    assert_eq!(outcome.stdout, "{\"index\":1,\"result\":0}\n{\"index\":0,\"result\":600}\n");
}

#[test]
fn failed_items_are_told_with_their_index() {
    let server = Server::start(&["--processes", "2"]);
    let failed = server.run(&["map", "fail", "\"no luck\""]).expect(1);
    assert_eq!((failed.stdout.as_str(), failed.stderr.as_str()), ("", "procpool: item 0: no luck\n"));
    let only = server.run(&["apply", "fail", "\"no luck\""]).expect(1);
    assert_eq!((only.stdout.as_str(), only.stderr.as_str()), ("", "procpool: no luck\n"), "there is but one item");
    let collected = server.run(&["map", "fail", "--on-error", "collect", "\"a\"", "\"b\""]).expect(1);
    assert_eq!(collected.stdout, "null\nnull\n");
    assert_eq!(collected.stderr, "procpool: item 0: a\nprocpool: item 1: b\n");
    let streamed = server.run(&["imap", "fail", "--index", "\"a\""]).expect(1);
    assert_eq!(streamed.stdout, "{\"index\":0,\"error\":\"a\"}\n");
    let stopped = server.run(&["imap", "fail", "--on-error", "fail", "\"a\""]).expect(1);
    assert_eq!((stopped.stdout.as_str(), stopped.stderr.as_str()), ("", "procpool: item 0: a\n"));
    let late = server.run(&["imap", "sleep_ms", "--item-timeout", "100ms", "0", "60000"]).expect(1);
    assert_eq!(late.stdout, "0\nnull\n");
    assert!(late.stderr.starts_with("procpool: item 1: the item ran longer than its limit of 100ms"), "{late:?}");
}

#[test]
fn a_call_that_is_refused_says_why() {
    let server = Server::start(&["--processes", "1"]);
    let unknown = server.run(&["apply", "powr", "2"]).expect(4);
    let expected = "procpool: no worker registered a function \"powr\"; did you mean power?\n";
    assert_eq!(unknown.stderr, expected);
    assert_eq!(server.run(&["imap", "powr", "2"]).expect(4).stderr, expected);
    let late = server.run(&["map", "sleep_ms", "60000", "--timeout", "200ms"]).expect(4);
    assert!(late.stderr.starts_with("procpool: the deadline passed"), "{late:?}");
    let late = server.run(&["imap", "sleep_ms", "60000", "--timeout", "200ms"]).expect(4);
    assert!(late.stderr.starts_with("procpool: the deadline passed"), "{late:?}");
    let no_list = server.run(&["starmap", "power", "[1,2]", "3"]).expect(2);
    assert!(no_list.stderr.contains("values[1]"), "{no_list:?}");
}

#[test]
fn large_integers_are_refused_or_exact() {
    let server = Server::start(&["--processes", "1"]);
    let refused = server.run(&["map", "echo", "9007199254740993"]).expect(2);
    assert!(refused.stderr.contains("item 0") && refused.stderr.contains("--json"), "{refused:?}");
    for command in ["map", "imap", "apply"] {
        let exact = server.run(&[command, "--json", "echo", "9007199254740993"]).expect(0);
        assert_eq!(exact.stdout, "9007199254740993\n", "{command}");
    }
}

#[test]
fn json_takes_integers_of_any_size_where_the_workers_do() {
    let same = ["--processes", "1", "--", env!("CARGO_BIN_EXE_procpool"), "worker", "exec", "--function", "same=cat"];
    let server = Server::start(&same);
    let (large, text) = ("1180591620717411303424", "[1180591620717411303424,-1180591620717411303424]");
    for args in
        [&["map", "--json", "same", large][..], &["imap", "--json", "same", large], &["apply", "--json", "same", large]]
    {
        assert_eq!(server.run(args).expect(0).stdout, format!("{large}\n"), "{args:?}");
    }
    let document = format!("[ {large}, {text} ]");
    let outcome = server.run_with_stdin(&["imap", "--json", "same", "--from-json", "-"], &document).expect(0);
    assert_eq!(outcome.stdout, format!("{large}\n{text}\n"));
    let wrong = server.run(&["map", "--json", "same", "[1,"]).expect(2);
    assert!(wrong.stderr.contains("is not JSON"), "{wrong:?}");
}

#[test]
fn bytes_go_in_from_files_and_come_out() {
    let server = Server::start(&["--processes", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("a"), b"\0\xff\x1b").unwrap();
    std::fs::write(file("b"), b"").unwrap();
    let list = format!("{}\n\n{}\r\n", file("a"), file("b"));
    for command in ["map", "imap"] {
        let outcome = server.run_with_stdin(&[command, "echo_bytes", "--each-file", "-"], &list).expect(0);
        assert_eq!(outcome.stdout, "\"AP8b\"\n\"\"\n", "{command}");
        let missing = server.run_with_stdin(&[command, "echo_bytes", "--each-file", "-"], "/no/such\n").expect(2);
        assert_eq!(missing.stderr, "procpool: cannot read /no/such: No such file or directory (os error 2)\n");
    }
    let mut apply = server.command(&["apply", "echo_bytes", "--blob", &file("a")]);
    assert_eq!(apply.output().unwrap().stdout, b"\0\xff\x1b", "as they are");
    let lists = server.run(&["starmap", "echo_bytes", "--each-file", "-"]).expect(2);
    assert!(lists.stderr.contains("a file is one argument"), "{lists:?}");
}

#[test]
fn a_range_may_begin_below_zero() {
    let server = Server::start(&["--processes", "1"]);
    assert_eq!(server.run(&["map", "echo", "-1..1", "--chunk-size", "1"]).expect(0).stdout, "-1\n0\n1\n");
}

#[test]
fn nothing_that_a_function_says_acts_on_the_terminal() {
    let server = Server::start(&["--processes", "1"]);
    let text = r#""\u001b[31mred\u0000\r\u009b2J\nprocpool: item 7: a lie""#;
    let shown = r"\u{1b}[31mred\u{0}\r\u{9b}2J";
    let raised = server.run(&["map", "fail", text]).expect(1);
    assert_eq!(raised.stderr, format!("procpool: item 0: {shown}\n    procpool: item 7: a lie\n"));
    let table = server.run(&["map", "fail", text, "--output", "table"]).expect(1);
    assert!(table.stdout.contains(&format!("failed  {shown}")), "{table:?}");
    // JSON stays JSON that means the same.
    for args in
        [&["map", "echo", text][..], &["imap", "--json", "echo", text], &["map", "echo", "--output", "json", text]]
    {
        let outcome = server.run(args).expect(0);
        assert!(!outcome.stdout.contains(['\u{1b}', '\u{9b}', '\r', '\0']), "{outcome:?}");
        let [value] = &outcome.values()[..] else { panic!("{outcome:?}") };
        let value = value.get("result").unwrap_or(value);
        assert_eq!(value, "\u{1b}[31mred\0\r\u{9b}2J\nprocpool: item 7: a lie");
    }
}

#[test]
fn a_bad_line_ends_the_items_and_what_came_before_counts() {
    let server = Server::start(&["--processes", "1"]);
    let outcome = server.run_with_stdin(&["imap", "echo"], "1\n2\nthree\n4\n").expect(2);
    assert_eq!(outcome.stdout, "1\n2\n");
    assert!(outcome.stderr.starts_with("procpool: line 3 of stdin is not JSON"), "{outcome:?}");
}

#[test]
fn functions_and_health_are_told() {
    let server = Server::start(&["--processes", "1"]);
    // A call waits for the first worker; functions and health do not.
    server.run(&["map", "echo", "1"]).expect(0);
    assert_eq!(server.run(&["health"]).expect(0).stdout, "serving\n");
    insta::assert_snapshot!("functions", server.run(&["functions"]).expect(0).stdout);
    let functions = server.run(&["functions", "--json"]).expect(0).values();
    let power = functions.iter().find(|function| function["name"] == "power").unwrap();
    assert_eq!(power["example"], r#"{"function":"power","values":[[2,10],[3,3]]}"#);
}

#[test]
fn a_reader_that_has_had_enough_ends_the_call_quietly() {
    let server = Server::start(&["--processes", "1"]);
    let mut command = procpool(&["imap", "--server", &server.address, "echo", "1..100000000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    let mut stderr = child.stderr.take().unwrap();
    assert_eq!(wait(child).code(), Some(0));
    assert_eq!(std::io::read_to_string(&mut stderr).unwrap(), "");
}

#[test]
fn an_interrupted_call_is_cancelled_on_the_server() {
    let server = Server::start(&["--processes", "1"]);
    for command in ["map", "imap"] {
        let args = [command, "--server", &server.address, "analyze_match", "1..100000"];
        let mut child = procpool(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if command == "imap" {
            // It is at work.
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "\"Result for Match #1: Analysis Clear\"\n");
        } else {
            wait_until_busy(&server);
        }
        kill_process(pid_of(&child), Signal::INT).unwrap();
        assert_eq!(wait(child).code(), Some(130), "{command}");
        // The one slot is free again, long before 100,000 matches are analyzed.
        server.run(&["map", "echo", "1", "--timeout", "30s"]).expect(0);
    }
}

/// Waits until the server's one worker uses the CPU, as `analyze_match` does and starting does not for long.
fn wait_until_busy(server: &Server) {
    let began = Instant::now();
    loop {
        let [worker] = server.workers()[..] else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", worker.as_raw_nonzero())).unwrap();
        let user_ticks: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(11).unwrap().parse().unwrap();
        if user_ticks >= 5 {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the worker does nothing");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_is_killed_frees_its_slot() {
    let server = Server::start(&["--processes", "1"]);
    let args = ["imap", "--server", &server.address, "analyze_match", "1..100000"];
    let mut child = procpool(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    wait(child);
    server.run(&["map", "echo", "1", "--timeout", "30s"]).expect(0);
}

#[test]
fn the_tour_of_the_client_library_runs() {
    let server = Server::start(&["--processes", "2"]);
    server.run(&["map", "echo", "1"]).expect(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(crate::tour::tour(&server.address)).unwrap();
}
