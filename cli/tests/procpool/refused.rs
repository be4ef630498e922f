//! Calls that a real server refuses, and takes when they come again.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::support::{Server, pid_of, procpool, wait};

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < crate::support::LIMIT, "waited in vain until {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A server with one worker that holds items until a file is there, with room for no other.
fn full_server(folder: &Path) -> Server {
    let script = folder.join("hold.sh");
    let (began, end) = (folder.join("began"), folder.join("end"));
    let hold = format!("touch {}; until test -e {}; do sleep 0.01; done", began.display(), end.display());
    std::fs::write(&script, hold).unwrap();
    let hold = format!("hold=sh {}", script.display());
    let program = env!("CARGO_BIN_EXE_procpool");
    let worker = ["--", program, "worker", "exec", "--function", &hold, "--function", "count=wc -c"];
    let settings = ["--processes", "1", "--max-queued-items", "1"];
    Server::start(&[&settings[..], &worker[..]].concat())
}

#[test]
fn a_full_queue_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = full_server(folder.path());
    let holder = procpool(&["map", "--server", &server.address, "hold", "1"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the item runs", || folder.path().join("began").exists());
    let refused = server.run(&["map", "--no-retry", "count", "1"]).expect(3);
    assert!(refused.stderr.contains("the queue is full"), "{refused:?}");
    let patient = procpool(&["map", "--server", &server.address, "count", "1"]).stdout(Stdio::null()).spawn().unwrap();
    std::fs::write(folder.path().join("end"), "").unwrap();
    assert!(wait(holder).success());
    assert!(wait(patient).success());
}

#[test]
fn a_pool_without_workers_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mended = folder.path().join("mended");
    let worker = format!("test -e {} && exec {} worker", mended.display(), env!("CARGO_BIN_EXE_procpool"));
    let server = Server::start(&["--processes", "1", "--", "sh", "-c", &worker]);
    wait_for("the pool is degraded", || server.log().contains("no worker can be started"));
    let refused = server.run(&["map", "--no-retry", "echo", "1"]).expect(3);
    assert!(refused.stderr.contains("no worker could be started"), "{refused:?}");
    let mut patient = procpool(&["map", "--server", &server.address, "echo", "1"]);
    let mut patient = patient.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Whoever waits is told at once, and why.
    let mut notice = String::new();
    BufReader::new(patient.stderr.as_mut().unwrap()).read_line(&mut notice).unwrap();
    assert!(notice.starts_with("procpool: the server refused the call, which is made again in "), "{notice}");
    assert!(notice.contains("no worker could be started"), "{notice}");
    std::fs::write(mended, "").unwrap();
    assert!(wait(patient).success());
}

#[test]
fn a_call_that_waits_for_the_first_worker_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let worker = format!(
        "until test -e {}; do sleep 0.01; done; exec {} worker",
        ready.display(),
        env!("CARGO_BIN_EXE_procpool")
    );
    let server = Server::start(&["--processes", "1", "--", "sh", "-c", &worker]);
    for command in ["map", "imap", "apply"] {
        let mut waiting = procpool(&[command, "--server", &server.address, "echo", "1"]);
        let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut notice = String::new();
        BufReader::new(waiting.stderr.as_mut().unwrap()).read_line(&mut notice).unwrap();
        assert_eq!(notice, "procpool: the call waits: pool default is starting: no worker has been ready yet\n");
        kill_process(pid_of(&waiting), Signal::KILL).unwrap();
        wait(waiting);
    }
}

#[test]
fn a_call_that_a_drain_ends_is_not_one_that_never_started() {
    let folder = tempfile::tempdir().unwrap();
    let hold = format!("hold=sh -c 'touch {}; exec sleep 600'", folder.path().join("began").display());
    let worker = ["--", env!("CARGO_BIN_EXE_procpool"), "worker", "exec", "--function", &hold];
    let mut server = Server::start(&[&["--processes", "1", "--drain-timeout", "10ms"][..], &worker].concat());
    let mut holder = procpool(&["imap", "--server", &server.address, "hold", "1"]);
    let mut holder = holder.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the item runs", || folder.path().join("began").exists());
    assert!(server.stop(Signal::TERM).success());
    let said = std::io::read_to_string(holder.stderr.take().unwrap()).unwrap();
    assert_eq!(said, "procpool: the pool is shutting down\nprocpool: some items may have been executed\n");
    assert_eq!(wait(holder).code(), Some(4));
}

#[test]
fn a_call_that_is_too_large_for_ever_is_not_to_be_tried_again() {
    let server = Server::start(&["--processes", "1", "--max-queued-items", "2"]);
    let refused = server.run(&["map", "echo", "1..3"]).expect(4);
    assert_eq!(refused.stderr, "procpool: the call has 3 items, and the queue holds 2: send it in parts\n");
}

#[test]
fn a_server_that_shuts_down_refuses_every_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let server = full_server(folder.path());
    let holder = procpool(&["map", "--server", &server.address, "hold", "1"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the item runs", || folder.path().join("began").exists());
    kill_process(server.pid(), Signal::TERM).unwrap();
    wait_for("the pool drains", || server.log().contains("pool is draining"));
    for args in [&["map", "--no-retry", "count", "1"][..], &["map", "count", "1"]] {
        let refused = server.run(args).expect(3);
        assert!(
            refused.stderr.contains("shutting down") || refused.stderr.contains("no server answers"),
            "{refused:?}"
        );
    }
    std::fs::write(folder.path().join("end"), "").unwrap();
    assert!(wait(holder).success());
}
