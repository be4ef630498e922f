//! Signals to the server: the first stops it in order, the second at once, at whatever moment they come.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::serve::wait_for_file;
use crate::support::{LIMIT, Server, is_gone, procpool, wait};

/// Starts a server whose drain alone would last far longer than any test waits: where it ends, it ends at once.
fn start(command: &[&str]) -> Server {
    let args = ["--processes", "2", "--drain-timeout", "1h", "--kill-grace-period", "100ms", "--"];
    Server::start(&[&args[..], command].concat())
}

/// A client with an item that runs on.
struct Client {
    child: Child,
    /// Whoever closes it ends the client.
    _stdout: BufReader<ChildStdout>,
}

/// Starts a client, and returns when it has its first result.
fn client_of(server: &Server) -> Client {
    let args = ["imap", "--server", &server.address, "--chunk-size", "1", "sleep_ms", "0", "3600000"];
    let mut child = procpool(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    Client { child, _stdout: stdout }
}

fn wait_for_log(server: &Server, text: &str) {
    let began = Instant::now();
    while !server.log().contains(text) {
        assert!(began.elapsed() < LIMIT, "the log never said {text:?}: {}", server.log());
        std::thread::yield_now();
    }
}

/// Sends the second signal, when the first has been heard; checks that it ends the server and every worker at once.
fn expect_end_at_second(mut server: Server, signal: Signal, client: Client) {
    let workers = server.workers();
    kill_process(server.pid(), signal).unwrap();
    wait_for_log(&server, "draining");
    assert!(workers.iter().any(|worker| !is_gone(*worker)), "the item runs on");
    assert!(server.stop(signal).success(), "{}", server.log());
    assert!(workers.iter().all(|worker| is_gone(*worker)));
    assert_eq!(wait(client.child).code(), Some(4), "an item had begun");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let worker = procpool_test_workers::path("well_behaved");
    for signal in [Signal::TERM, Signal::INT] {
        let server = start(&[worker.to_str().unwrap()]);
        let client = client_of(&server);
        expect_end_at_second(server, signal, client);
    }
}

#[test]
fn a_second_signal_ends_it_at_once_though_its_workers_ignore_theirs() {
    let worker = procpool_test_workers::path("well_behaved");
    let server = start(&["sh", "-c", "trap '' TERM INT; exec \"$0\"", worker.to_str().unwrap()]);
    let client = client_of(&server);
    expect_end_at_second(server, Signal::TERM, client);
}

#[test]
fn sigterm_ends_it_while_its_workers_start() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun").to_str().unwrap().to_owned();
    // Neither ready nor willing to go.
    let script = format!("trap '' TERM; sleep 1000 & : >{begun}-$PROCPOOL_SLOT; wait");
    let mut server = start(&["sh", "-c", &script]);
    for slot in 0..2 {
        wait_for_file(&format!("{begun}-{slot}"));
    }
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    let children: Vec<Pid> = workers.iter().flat_map(|&worker| children(worker)).collect();
    assert_eq!(children.len(), 2);
    assert!(server.stop(Signal::TERM).success(), "{}", server.log());
    assert!(workers.iter().chain(&children).all(|process| is_gone(*process)));
}

#[test]
fn sigterm_ends_it_when_it_has_hardly_begun() {
    let worker = procpool_test_workers::path("well_behaved");
    // Each time somewhere else among the forks and the first frames of its workers.
    for _ in 0..8 {
        let mut server = start(&[worker.to_str().unwrap()]);
        let workers = server.workers();
        assert!(server.stop(Signal::TERM).success(), "{}", server.log());
        assert!(workers.iter().all(|worker| is_gone(*worker)), "{workers:?}");
    }
}

fn children(process: Pid) -> Vec<Pid> {
    let process = process.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    children.split_whitespace().map(|child| Pid::from_raw(child.parse().unwrap()).unwrap()).collect()
}
