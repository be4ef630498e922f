//! `procpool worker check`: it finds every vice that is a fault by the protocol, and no other.

use std::collections::BTreeSet;

use procpool_test_workers::path;

use crate::support::{Outcome, run};

/// Checks a worker, with little patience if it is known to be silent.
fn check(timeout: &str, command: &[&str]) -> Outcome {
    let mut args = vec!["worker", "check", "--examples", "--timeout", timeout, "--"];
    args.extend(command);
    run(&args, "")
}

/// What the kit says of a worker.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Passes,
    /// It fails, and this is said.
    Fails(&'static str),
}

use Expected::{Fails, Passes};

const VICES: [(&str, Expected); 31] = [
    ("bad_frame", Fails("sent an invalid frame: malformed frame")),
    ("cancels_the_next", Fails("failed the item after one that timed out: Cancelled")),
    ("closes_channel", Fails("closed its socket but still runs, and had 2 of 2 results to send")),
    ("common_kills", Fails("returned a result of a function that it does not have")),
    ("common_last", Fails("made [2,1] when pair was called with 2 and the common argument 1")),
    (
        "crash_on_start",
        Fails("exited with code 3, and had Hello to send; the last line of its stderr: cannot start: no such database"),
    ),
    ("decodes_early", Fails("had begun 0 items when it ran out of memory while it decoded the second of a chunk")),
    ("dies_on_run", Fails("returned a result of a function that it does not have")),
    ("dies_young", Fails("exited with code 7, and had")),
    ("double_reply", Fails("sent 2 results of chunk 1, which has 0 left")),
    ("empty_value", Fails("sent a Value of zero bytes")),
    ("exit_zero_mid_chunk", Fails("exited with code 0, and had 1 of 2 results to send")),
    ("half_frame", Fails("ended the socket within a frame")),
    ("huge_frame", Fails("a frame of 4294967295 bytes is over the limit")),
    ("large_to_receive", Fails("returned a result of a function that it does not have")),
    ("never_hello", Fails("sent nothing for 10s, and has Hello to send")),
    ("never_ready", Fails("sent nothing for 10s, and has Ready to send")),
    // It keeps the protocol's order; it looks at neither functions nor items.
    ("no_page", Fails("returned a result of a function that it does not have")),
    ("reply_after_recall", Fails("which has 1 left, as it gave back all from offset 1 on")),
    ("stops_reading", Fails("sent nothing for 1s, and has 2 of 2 results to send")),
    ("wrong_chunk", Fails("sent results of chunk 1001, which it was never given")),
    ("wrong_count", Fails("sent 3 results of chunk 1, which has 2 left")),
    // Vices of processes.
    ("forks_grandchild", Fails("left a process behind: forks_grandchil")),
    ("holds_pipe_open", Fails("left a process behind: holds_pipe_open")),
    ("ignores_sigterm", Fails("still runs after 2s")),
    ("setsid_grandchild", Fails("left a process behind: setsid_grandchi")),
    // No faults by the protocol: stdout and stderr belong to the functions, and the server limits what it logs of them;
    // how much memory a worker may hold is for the server's settings to say.
    ("floods_stderr", Passes),
    ("leaks_memory", Passes),
    ("prints_to_stdout", Passes),
    // No vices.
    ("registers", Passes),
    ("well_behaved", Passes),
];

#[test]
fn every_vice_that_is_a_fault_is_named() {
    std::thread::scope(|scope| {
        // Most of them do nothing but wait.
        let checks = VICES.map(|(name, expected)| {
            let is_slow_to_show = |fault: &str| fault.starts_with("left a process") || fault.starts_with("still runs");
            let timeout = match expected {
                Fails(fault) if !is_slow_to_show(fault) => "1s",
                Fails(_) | Passes => "10s",
            };
            (name, expected, scope.spawn(move || check(timeout, &[path(name).to_str().unwrap()])))
        });
        for (name, expected, check) in checks {
            let outcome = check.join().unwrap();
            match expected {
                Passes => {
                    let outcome = outcome.expect(0);
                    assert!(outcome.stdout.contains(" 0 failed"), "{name}: {}", outcome.stdout);
                }
                Fails(fault) => {
                    let outcome = outcome.expect(1);
                    assert!(outcome.stdout.contains(fault), "{name}: {}", outcome.stdout);
                }
            }
        }
    });
}

#[test]
fn every_vice_is_in_the_table() {
    let manifest = include_str!("../../../test-workers/Cargo.toml");
    let names = manifest.split("[[bin]]").skip(1).map(|bin| bin.split('"').nth(1).unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), VICES.iter().map(|(name, _)| *name).collect());
}

/// Leaves out what is different each time.
fn without_notes(text: &str) -> String {
    let lines = text.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("note: "));
    lines.collect::<String>().replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn the_built_in_worker_passes_every_check() {
    let outcome = check("10s", &[env!("CARGO_BIN_EXE_procpool"), "worker"]).expect(0);
    insta::assert_snapshot!("check_builtin", without_notes(&outcome.stdout));
}

#[test]
fn a_worker_of_commands_passes() {
    let sleep = "sleep_ms=sh -c 'sleep $(($1/1000)).$(printf %03d $(($1%1000)))' sh {}";
    let pair = "pair=printf [%s,%s] {} {}";
    let functions = [
        "--function",
        "echo=printf %s {}",
        "--function",
        sleep,
        "--function",
        "fail=sh -c 'exit 3'",
        "--function",
        pair,
    ];
    let program = env!("CARGO_BIN_EXE_procpool");
    let outcome = check("10s", &[&[program, "worker", "exec"][..], &functions].concat()).expect(0);
    assert!(outcome.stdout.contains(" 0 failed, 0 skipped"), "{}", outcome.stdout);
}

#[test]
fn a_worker_that_fails_is_told_what_it_did_and_what_the_protocol_says() {
    let outcome = check("1s", &[path("double_reply").to_str().unwrap()]).expect(1);
    insta::assert_snapshot!("check_double_reply", without_notes(&outcome.stdout));
}

#[test]
fn a_program_that_is_no_worker_fails() {
    let outcome = check("1s", &["/no/such/worker"]).expect(1);
    assert!(outcome.stdout.contains("could not be started: No such file or directory"), "{}", outcome.stdout);
    let outcome = check("1s", &["/bin/true"]).expect(1);
    assert!(outcome.stdout.contains("exited with code 0, and had Hello to send"), "{}", outcome.stdout);
}
