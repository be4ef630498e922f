//! Lists from files, parts of them, and the forms of the output.

use serde_json::{Value, json};

use crate::support::{Outcome, Server};

/// Runs `echo`, by map and by both kinds of imap, over a list on stdin.
fn echo(server: &Server, args: &[&str], stdin: &str) -> Vec<Value> {
    let run = |command: &[&str]| server.run_with_stdin(&[command, &["echo"], args].concat(), stdin).expect(0);
    let mapped = run(&["map"]).values();
    assert_eq!(run(&["imap"]).values(), mapped);
    let mut unordered = run(&["imap", "--unordered", "--output", "json"]).values();
    unordered.sort_by_key(|line| line["index"].as_u64());
    assert_eq!(unordered.iter().map(|line| line["result"].clone()).collect::<Vec<_>>(), mapped);
    mapped
}

#[test]
fn lists_come_from_lines_json_and_csv() {
    let server = Server::start(&["--processes", "2"]);
    for (args, stdin, expected) in [
        ("--each-line -", "a\n\n 7 \n\"q\"", json!(["a", "", " 7 ", "\"q\""])),
        ("--each-line -", "a\r\n\r\nb\r\nc\rd\n", json!(["a", "", "b", "c\rd"])),
        ("--each-line -", "\u{feff}é\n\u{feff}\n", json!(["é", "\u{feff}"])),
        ("--each-line -", "\n", json!([""])),
        ("--each-line -", "", json!([])),
        ("--from-json -", "[1, [2],\n\n {\"a\": null}, \"x\"]\n", json!([1, [2], {"a": null}, "x"])),
        ("--from-json -", "\u{feff} []", json!([])),
        (
            "--csv -",
            "name,n\nAda,7\n\"B, \"\"C\"\"\nD\",007\n",
            json!([
                {"name": "Ada", "n": "7"}, {"name": "B, \"C\"\nD", "n": "007"}
            ]),
        ),
        ("--csv -", "\u{feff}a\r\n1\r\n\r\n\"\"\r\n2", json!([{"a": "1"}, {"a": ""}, {"a": "2"}])),
        ("--csv - --csv-numbers", "a,b\n7,007\n-1.5,1 \n", json!([{"a": 7, "b": "007"}, {"a": -1.5, "b": "1 "}])),
        ("--csv - --csv-no-header", "a,a\n1,2\n", json!([["a", "a"], ["1", "2"]])),
        ("--csv - --csv-no-header --csv-numbers", "a,1\n", json!([["a", 1]])),
        ("--csv -", "a,b\n", json!([])),
        ("--csv -", "", json!([])),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        assert_eq!(json!(echo(&server, &args, stdin)), expected, "{args:?} {stdin:?}");
    }
}

#[test]
fn lists_of_arguments_come_from_json_and_csv() {
    let server = Server::start(&["--processes", "2"]);
    for command in [&["starmap"][..], &["imap", "--star"]] {
        for (args, stdin) in [
            ("--from-json -", "[[2,10],[3,3]]"),
            ("--csv - --csv-numbers", "base,exponent\n2,10\n3,3\n"),
            ("--csv - --csv-numbers --csv-no-header", "2,10\n3,3\n"),
        ] {
            let args: Vec<&str> = command.iter().copied().chain(["power"]).chain(args.split(' ')).collect();
            assert_eq!(server.run_with_stdin(&args, stdin).expect(0).stdout, "1024\n27\n", "{args:?}");
        }
    }
}

#[test]
fn a_list_may_stand_in_a_file() {
    let server = Server::start(&["--processes", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let path = path.to_str().unwrap();
    for (option, text) in [("--each-line", "x\n"), ("--from-json", "[\"x\"]"), ("--csv", "a\nx\n")] {
        std::fs::write(path, text).unwrap();
        let lines = server.run(&["imap", "echo", option, path]).expect(0);
        assert!(lines.stdout.contains("\"x\""), "{option}: {lines:?}");
    }
}

#[test]
fn a_part_of_a_list_keeps_its_indexes() {
    let server = Server::start(&["--processes", "2"]);
    let lines = [3, 8, 9, 10].map(|index| json!({"index": index, "status": "ok", "result": index * 10}));
    let list = format!("[{}]", (0..20).map(|item| (item * 10).to_string()).collect::<Vec<_>>().join(","));
    assert_eq!(echo(&server, &["--from-json", "-", "--only", "8-10,3"], &list), [30, 80, 90, 100]);
    for command in ["map", "imap"] {
        let args = [command, "echo", "--from-json", "-", "--only", "8-10,3", "--output", "json"];
        assert_eq!(server.run_with_stdin(&args, &list).expect(0).values(), lines, "{command}");
    }
    let powers = server.run(&["starmap", "power", "--index", "--only", "1", "[2,10]", "[3,3]"]).expect(0);
    assert_eq!(powers.stdout, "{\"index\":1,\"result\":27}\n");
    assert_eq!(server.run(&["map", "echo", "1..3", "--only", "5-"]).expect(0).stdout, "");
    // Results before the end of the list are there, and then the end is told.
    let missing = server.run(&["imap", "echo", "1..5", "--only", "1,7"]).expect(2);
    assert_eq!(missing.stdout, "2\n");
    assert!(missing.stderr.starts_with("procpool: --only names item 7, but the list has 5 items"), "{missing:?}");
}

#[test]
fn failures_are_told_by_their_index_in_the_list() {
    let server = Server::start(&["--processes", "1"]);
    let stderr = |args: &[&str], code| server.run(args).expect(code).stderr;
    assert_eq!(stderr(&["map", "fail", "--only", "2", "1", "2", "\"a\""], 1), "procpool: item 2: a\n");
    assert_eq!(stderr(&["imap", "fail", "--only", "2", "1", "2", "\"a\""], 1), "procpool: item 2: a\n");
    let args = ["imap", "fail", "--on-error", "fail", "--only", "1", "1", "\"a\""];
    assert_eq!(stderr(&args, 1), "procpool: item 1: a\n");
    let no_list = stderr(&["starmap", "power", "--only", "2", "[1,2]", "[1,2]", "3"], 2);
    assert!(no_list.contains("values[2]"), "{no_list}");
    let too_large = stderr(&["map", "echo", "--only", "1", "1", "9007199254740993"], 2);
    assert!(too_large.contains("item 1 "), "{too_large}");
    let too_large = stderr(&["imap", "echo", "--only", "1", "1", "9007199254740993"], 2);
    assert!(too_large.contains("item 1 "), "{too_large}");
}

/// Runs `sleep_ms` over two items, of which the second is over its limit.
fn run_half(server: &Server, args: &[&str]) -> Outcome {
    server.run(&[args, &["sleep_ms", "--item-timeout", "200ms", "0", "60000"]].concat()).expect(1)
}

#[test]
fn the_output_has_four_forms() {
    let server = Server::start(&["--processes", "1"]);
    for command in ["map", "imap"] {
        let json = run_half(&server, &[command, "--output", "json"]);
        let [ok, failed] = &json.values()[..] else { panic!("{json:?}") };
        assert_eq!(*ok, json!({"index": 0, "status": "ok", "result": 0}));
        assert_eq!((&failed["index"], &failed["status"]), (&json!(1), &json!("failed")));
        assert_eq!(failed["error"]["code"], "DEADLINE_EXCEEDED");
        assert_eq!(failed["error"]["reason"], "ITEM_TIMEOUT");
        let message = failed["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("the item ran longer than its limit"), "{message}");

        let told = format!("procpool: item 1: {message}\n");
        assert_eq!(json.stderr, told);
        let table = run_half(&server, &[command, "--output", "table"]);
        let expected =
            format!("INDEX  STATUS  RESULT\n    0  ok      0\n    1  failed  {message}\n\n2 items: 1 ok, 1 failed\n");
        assert_eq!((table.stdout, &table.stderr), (expected, &told));
        let quiet = run_half(&server, &[command, "--output", "quiet"]);
        assert_eq!((quiet.stdout.as_str(), &quiet.stderr), ("", &told));
        let values = run_half(&server, &[command, "--output", "values", "--on-error", "collect"]);
        assert_eq!((values.stdout.as_str(), &values.stderr), ("0\nnull\n", &told));
    }
}

#[test]
fn a_call_that_ends_with_the_first_failure_has_a_line_for_it() {
    let server = Server::start(&["--processes", "1"]);
    for command in ["map", "imap"] {
        let args = [command, "fail", "--on-error", "fail", "--only", "1", "--output", "json", "1", "\"a\""];
        let outcome = server.run(&args).expect(1);
        let [line] = &outcome.values()[..] else { panic!("{outcome:?}") };
        assert_eq!((&line["index"], &line["status"]), (&json!(1), &json!("failed")));
        assert_eq!(outcome.stderr, "procpool: item 1: a\n");
    }
    let refused = server.run(&["map", "--output", "json", "powr", "1"]).expect(4);
    assert_eq!(refused.stdout, "");
}
