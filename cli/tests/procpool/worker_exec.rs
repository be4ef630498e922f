//! `procpool worker exec` under a real server: what goes in, what comes out, and what is left behind, which is nothing.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use procpool_client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{LIMIT, Outcome, Server, is_gone, procpool, run, wait};

/// Starts a server with one worker that runs these commands.
fn start(functions: &[&str]) -> Server {
    let mut args = vec!["--processes", "1", "--", env!("CARGO_BIN_EXE_procpool"), "worker", "exec"];
    for function in functions {
        args.extend(["--function", function]);
    }
    Server::start(&args)
}

/// Writes a JSON string.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// Waits until a command has written its file, and returns the numbers in it.
fn pids_in(path: &Path) -> Vec<Pid> {
    let began = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect();
        }
        assert!(began.elapsed() < LIMIT, "{} was never written", path.display());
        std::thread::yield_now();
    }
}

fn wait_until_gone(pid: Pid) {
    let began = Instant::now();
    while !is_gone(pid) {
        assert!(began.elapsed() < LIMIT, "{pid:?} is still alive");
        std::thread::yield_now();
    }
}

#[test]
fn items_become_arguments_or_stdin_and_output_becomes_results() {
    let server =
        start(&["wc=wc -c", "echo=printf %s {}", "cat=cat", "add=expr {} + {}", "swap=printf '%s-%s' {2} {1}"]);
    let stdout = |args: &[&str]| server.run(args).expect(0).stdout;
    assert_eq!(stdout(&["map", "wc", "\"abc\"", "12"]), "4\n3\n");
    assert_eq!(
        stdout(&["map", "echo", "\"a b\"", "[1, 2]", "null", "\"\"", "1.5"]),
        "\"a b\"\n[1,2]\nnull\n\"\"\n1.5\n"
    );
    assert_eq!(stdout(&["starmap", "add", "[1,2]", "[3,4]"]), "3\n7\n");
    assert_eq!(stdout(&["apply", "add", "20", "22"]), "42\n");
    assert_eq!(stdout(&["starmap", "swap", "[\"a\",\"b\"]"]), "\"b-a\"\n");
    assert_eq!(stdout(&["map", "cat", "[1,\"x\"]"]), "[1,\"x\"]\n");
    assert_eq!(stdout(&["starmap", "cat", "[[1]]"]), "[1]\n");
    assert_eq!(stdout(&["apply", "cat", "{\"a\":[null]}"]), "{\"a\":[null]}\n");
    assert_eq!(stdout(&["map", "--json", "echo", "9007199254740993"]), "9007199254740993\n");
    assert!(stdout(&["functions"]).contains("Runs the command: expr {} + {}"));
}

#[test]
fn nothing_in_an_item_is_seen_by_a_shell_or_split() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&["echo=printf %s {}", "two=sh -c 'printf %s \"$1\"' sh {}"]);
    let touched = folder.path().join("touched");
    for text in [
        format!("x; touch {}", touched.display()),
        format!("$(touch {})", touched.display()),
        format!("`touch {0}` ' \" \\ | & > {0}", touched.display()),
        "{} {1}".to_owned(),
        "a\nb\tc  d".to_owned(),
    ] {
        for function in ["echo", "two"] {
            assert_eq!(server.run(&["map", function, &quoted(&text)]).expect(0).values(), [json!(text)]);
        }
    }
    assert!(!touched.exists());
}

#[test]
fn failures_tell_the_code_or_the_signal_and_the_end_of_stderr() {
    let server = start(&["sh=sh -c {}", "echo=printf %s {}", "add=expr {} + {}"]);
    let failed = |server: &Server, args: &[&str]| {
        let Outcome { stdout, stderr, .. } = server.run(args).expect(1);
        assert_eq!(stdout, "");
        stderr
    };
    let stderr = failed(&server, &["map", "sh", "\"echo first >&2; echo oops >&2; exit 3\""]);
    assert_eq!(stderr, "procpool: item 0: ExitCode(3): oops\n    first\n    oops\n");
    let stderr = failed(&server, &["map", "sh", "\"kill -9 $$\""]);
    assert_eq!(stderr, "procpool: item 0: Signal(9): the command was ended by signal 9\n");
    let stderr = failed(&server, &["map", "sh", "\"seq 1 100000 >&2; exit 1\""]);
    assert!(stderr.starts_with("procpool: item 0: ExitCode(1): 100000\n"), "{stderr}");
    assert!(stderr.len() < 10_000 && stderr.ends_with("99999\n    100000\n"), "{}", stderr.len());
    let stderr = failed(&server, &["map", "sh", "\"echo 1764000000000000000\""]);
    assert!(stderr.contains("beyond ±(2^53 - 1)"), "{stderr}");
    let stderr = failed(&server, &["map", "sh", r#""printf '\\377'""#]);
    assert!(stderr.contains("no UTF-8"), "{stderr}");
    let stderr = server.run(&["map", "add", "1"]).expect(2).stderr;
    assert!(stderr.contains("the function takes 2 arguments: call it with starmap or apply"), "{stderr}");
    let stderr = server.run_with_stdin(&["map", "echo"], &quoted(&"x".repeat(200_000))).expect(2).stderr;
    assert!(stderr.contains("too long for an argument of a command; stdin takes more"), "{stderr}");
    // The worker lives on, and what the commands said is in the log.
    assert_eq!(server.run(&["map", "echo", "1"]).expect(0).stdout, "1\n");
    assert_eq!(server.workers().len(), 1);
    assert!(server.log().contains("oops"), "{}", server.log());
}

#[tokio::test]
async fn blobs_go_in_and_come_out_as_they_are() {
    let server = start(&["cat=cat", "wc=wc -c", "echo=printf %s {}", "endless=yes"]);
    let client = Client::connect(&server.address).await.unwrap();
    // Larger than any pipe: both directions at once.
    let large: Vec<u8> = (0..8_000_000_u32).map(|index| index.to_le_bytes()[index as usize % 3]).collect();
    let blobs = vec![large.clone(), Vec::new(), b"\0\xff\n".to_vec()];
    assert!(client.map_bytes("cat", blobs.clone()).await.unwrap() == blobs);
    assert_eq!(client.map_bytes("wc", vec![large]).await.unwrap()[0], "8000000\n");
    assert_eq!(client.map_bytes("echo", vec![b"\xff\xfe".to_vec()]).await.unwrap()[0], b"\xff\xfe"[..]);
    let error = client.map_bytes("endless", vec![b"".to_vec()]).await.unwrap_err().to_string();
    assert!(error.contains("printed more than the 1677"), "{error}");
    let error = client.map_bytes("echo", vec![b"a\0b".to_vec()]).await.unwrap_err().to_string();
    assert!(error.contains("zero byte"), "{error}");
}

#[test]
fn what_a_command_leaves_in_its_group_ends_with_it() {
    let server = start(&["sh=sh -c {}"]);
    let outcome = server.run(&["map", "sh", "\"sleep 600 & echo $!\""]).expect(0);
    wait_until_gone(Pid::from_raw(outcome.stdout.trim().parse().unwrap()).unwrap());
}

#[test]
fn a_cancelled_item_kills_the_whole_group_and_not_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let server = start(&["sh=sh -c {}"]);
    let worker = server.run(&["map", "sh", "\"echo $PPID\""]).expect(0).stdout;
    let script = quoted(&format!("sleep 600 & echo $$ $! > {}; wait", file.display()));
    let mut call = procpool(&["map", "--server", &server.address, "sh", &script]);
    let child = call.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pids = pids_in(&file);
    assert_eq!(pids.len(), 2);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(wait(child).code(), Some(130));
    pids.into_iter().for_each(wait_until_gone);
    assert_eq!(server.run(&["map", "sh", "\"echo $PPID\""]).expect(0).stdout, worker);
}

#[test]
fn no_command_outlives_its_worker_or_a_killed_server() {
    for kills_server in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let mut server = start(&["sh=sh -c {}"]);
        let script = quoted(&format!("sleep 600 & echo $$ $! > {}; wait", file.display()));
        let mut call = procpool(&["map", "--server", &server.address, "sh", &script]);
        let child = call.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pids = pids_in(&file);
        let [worker] = server.workers()[..] else { panic!("one worker") };
        if kills_server {
            server.stop(Signal::KILL);
        } else {
            kill_process(worker, Signal::KILL).unwrap();
        }
        pids.into_iter().for_each(wait_until_gone);
        assert_ne!(wait(child).code(), Some(0));
    }
}

#[test]
fn commands_that_cannot_be_run_are_refused_at_the_start() {
    let complaint = |function: &str| {
        let Outcome { stdout, stderr, .. } = run(&["worker", "exec", "--function", function], "").expect(2);
        assert_eq!(stdout, "");
        stderr.lines().next().unwrap_or_default().to_owned()
    };
    insta::assert_snapshot!(complaint("wc"), @"error: invalid value 'wc' for '--function <NAME=COMMAND>': it is NAME=COMMAND, such as 'count=wc -c'");
    insta::assert_snapshot!(complaint("x=no-such-program {}"), @r#"procpool: --function x: there is no program "no-such-program""#);
    insta::assert_snapshot!(complaint("x=/etc/passwd"), @r#"procpool: --function x: there is no program "/etc/passwd""#);
    insta::assert_snapshot!(complaint("x={} 1"), @r#"procpool: --function x: the program of "{} 1" must be named: no item may choose it"#);
    insta::assert_snapshot!(complaint("x=cat '"), @r#"procpool: --function x: "cat '" is no command line: missing closing quote"#);
    let twice = run(&["worker", "exec", "--function", "x=cat", "--function", "x=cat"], "").expect(2);
    assert_eq!(twice.stderr, "procpool: --function x: there are two of this name\n");
}
