//! Workers of the Rust SDK as processes: what they leave behind when they are killed, and how they end.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use procpool_ipc::proto::CallStyle::{Map, Star};
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{Recalled, Results};
use procpool_items::{Records, value};
use procpool_test_workers::{FakeServer, GroupGuard, JOURNAL_BYTES, Marker, path, resident_bytes, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Process {
    child: Child,
    server: FakeServer,
    _guard: GroupGuard,
}

/// Starts a worker program and returns its process and our end of its socket.
#[expect(clippy::disallowed_methods, reason = "the supervisor is not what is tested here")]
fn spawn(program: &str) -> (Child, UnixStream, GroupGuard) {
    let (ours, theirs) = UnixStream::pair().expect("descriptors are available");
    // The shell moves the socket from stdin to descriptor 3; no other child can inherit it meanwhile.
    let child = Command::new("/bin/sh")
        .args(["-c", r#"exec "$0" 3<&0 </dev/null"#])
        .arg(path(program))
        .env("PROCPOOL_FD", "3")
        .env_remove("PROCPOOL_SOCKET")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell can be started");
    let guard = GroupGuard::new(&child);
    (child, ours, guard)
}

fn start(program: &str) -> Process {
    let (child, socket, guard) = spawn(program);
    let server = FakeServer::welcome(socket, procpool_ipc::DEFAULT_MAX_FRAME_BYTES, JOURNAL_BYTES);
    Process { child, server, _guard: guard }
}

impl Process {
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the worker exits", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.expect("it has exited")
    }

    /// Takes what came before the end of the connection.
    fn results_until_end(&mut self) -> Vec<Results> {
        let mut all = Vec::new();
        while let Some(frame) = self.server.next_frame() {
            let WorkerFrame::Results(results) = frame else { panic!("unexpected {frame:?}") };
            all.push(results);
        }
        all
    }
}

#[test]
fn the_functions_and_the_files_of_a_worker_are_as_expected() {
    let mut process = start("well_behaved");
    assert_eq!(process.server.hello.pid, process.child.id());
    assert_eq!(process.server.call_one("pid", Map, json!(0)), json!(process.child.id()));
    let Value::Object(files) = process.server.call_one("open_files", Map, json!(0)) else { panic!("it is a map") };
    let num_of = |prefix: &str| {
        files.values().filter(|target| target.as_str().is_some_and(|target| target.starts_with(prefix))).count()
    };
    // The page is mapped and its descriptor closed. The I/O thread is woken by an eventfd.
    assert_eq!((num_of("socket:"), num_of("/memfd:"), num_of("anon_inode:")), (1, 0, 1), "{files:?}");
    process.server.shut_down();
    assert_eq!(process.wait().code(), Some(0));
}

/// What a worker may hold more after a large item.
const SPARE_BYTES: usize = 16 << 20;
/// More than the C library ever keeps of one block that was freed.
const LARGE_BYTES: usize = 40 << 20;

#[test]
fn an_idle_worker_keeps_nothing_of_its_last_item() {
    let mut process = start("well_behaved");
    process.server.call_one("echo", Map, json!(1));
    let before = resident_bytes(process.child.id());
    let blob = vec![b'x'; LARGE_BYTES];
    for is_input in [true, false, true] {
        let chunk = if is_input {
            process.server.run_blobs("echo_bytes", Map, "", &[&blob])
        } else {
            process.server.run("repeat", Map, &[json!(LARGE_BYTES)]).0
        };
        let mut count = 0;
        while count == 0 {
            let results = process.server.expect_results();
            assert_eq!((results.chunk, results.failures.len()), (chunk, 0));
            count += results.count;
        }
        wait_until("the worker gives the memory back", || resident_bytes(process.child.id()) < before + SPARE_BYTES);
    }
}

#[test]
fn nothing_of_an_item_lives_on_beside_the_next() {
    let mut process = start("well_behaved");
    let items = [0, LARGE_BYTES, 0].map(|count| json!(count));
    let outcome = process.server.call("repeat_or_measure", Map, &items);
    let [before, after] = [0, 2].map(|index| outcome.results[index].as_u64().expect("it was measured"));
    assert!(after < before + SPARE_BYTES as u64, "{before} before, {after} after");
}

/// After a SIGKILL at any moment, each item is known to have finished, to have been running, or never to have begun.
#[test]
fn a_killed_worker_leaves_the_truth_behind() {
    let directory = TempDir::new().unwrap();
    let mut num_in_journal = 0;
    for round in 0..25_u32 {
        let mut process = start("well_behaved");
        let log = Marker::new(directory.path(), &format!("log{round}"));
        let items: Vec<Value> = (0..5000).map(|index| json!([log.path(), index.to_string()])).collect();
        let (_, first_sequence) = process.server.run("append_line", Star, &items);
        let enough = u64::from(round) * 20 + 1;
        while process.server.page().begun().unwrap() < first_sequence + enough {
            std::hint::spin_loop();
        }
        process.child.kill().unwrap();
        assert_eq!(process.wait().signal(), Some(9));

        let sent: u64 = process.results_until_end().iter().map(|results| u64::from(results.count)).sum();
        let begun = process.server.page().begun().unwrap() - first_sequence + 1;
        let finished = match process.server.page().journal().unwrap() {
            Some((first, journal)) => {
                let count = Records::new(&journal).flatten().count() as u64;
                // The journal follows what was sent, or was sent and not yet emptied.
                let start = first - first_sequence;
                assert!(start == sent || start + count == sent, "journal {start}+{count}, sent {sent}");
                num_in_journal += start + count - sent;
                start + count
            }
            None => sent,
        };
        assert!(begun - finished <= 1, "begun {begun}, finished {finished}");

        // The file tells what really happened.
        let lines = std::fs::read_to_string(log.path()).unwrap();
        let executed = lines.lines().count() as u64;
        assert!(lines.lines().enumerate().all(|(index, line)| line == index.to_string()), "in order, each once");
        assert!(executed == finished || executed == begun, "executed {executed}, finished {finished}, begun {begun}");
    }
    assert!(num_in_journal > 0, "no kill came while a result was unsent");
}

#[test]
fn a_worker_that_crashes_leaves_the_results_before() {
    let directory = TempDir::new().unwrap();
    for (function, argument, signal, code) in [
        ("crash", json!(null), Some(9), None),
        ("segfault", json!(null), Some(11), None),
        ("abort", json!(null), Some(6), None),
        ("exit", json!(0), None, Some(0)),
        ("exit", json!(7), None, Some(7)),
    ] {
        let mut process = start("well_behaved");
        let marker = Marker::new(directory.path(), "never");
        let (_, sequence) = process.server.run(function, Map, &[argument, json!(marker.path())]);
        let status = process.wait();
        assert_eq!((status.signal(), status.code()), (signal, code), "{function}");
        assert!(process.results_until_end().is_empty());
        assert_eq!(process.server.page().begun().unwrap(), sequence);
        assert_eq!(process.server.page().journal().unwrap(), None);
    }
}

#[test]
fn a_worker_ends_with_its_server_even_in_the_middle_of_an_item() {
    for function in ["hang", "sleep_ms"] {
        let mut process = start("well_behaved");
        process.server.run(function, Map, &[json!(50_000)]);
        wait_until("the item begins", || process.server.page().begun().unwrap() == 1);
        process.server.peer.socket().shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(process.wait().code(), Some(1));
    }
}

#[test]
fn an_idle_worker_ends_with_its_server_and_says_success() {
    let mut process = start("well_behaved");
    process.server.peer.socket().shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn a_cancelled_function_is_told_and_the_next_chunk_is_not() {
    let directory = TempDir::new().unwrap();
    let mut process = start("well_behaved");
    let server = &mut process.server;
    for round in 0..20 {
        let (chunk, sequence) = server.run("wait_until_cancelled", Map, &[json!(1), json!(2)]);
        wait_until("the item begins", || server.page().begun().unwrap() == sequence);
        // Also when it was recalled before.
        if round % 2 == 1 {
            server.recall(chunk, false);
            assert_eq!(server.expect_recalled(), Recalled { chunk, first_not_begun: 1 });
        }
        server.recall(chunk, true);
        if round % 2 == 0 {
            assert_eq!(server.expect_recalled(), Recalled { chunk, first_not_begun: 1 });
        }
        assert_eq!(server.collect(chunk, 1).results, [json!(null)]);
    }
    let (chunk, sequence) = server.run("wait_until_cancelled", Map, &[json!(1)]);
    wait_until("the item begins", || server.page().begun().unwrap() == sequence);
    let go = Marker::new(directory.path(), "go");
    let next = server.run("wait_for_file", Map, &[json!(go.path())]).0;
    server.recall(chunk, true);
    server.expect_recalled();
    assert_eq!(server.collect(chunk, 1).failures, []);
    go.set();
    assert_eq!(server.collect(next, 1).failures, []);
}

#[test]
fn output_belongs_to_the_functions() {
    let mut process = start("prints_to_stdout");
    assert_eq!(process.server.call("echo", Map, &[json!(1), json!(2)]).results, [json!(1), json!(2)]);
    process.server.shut_down();
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the supervisor is not what is tested here")]
fn a_worker_finds_its_server_by_a_path() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("pool.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut child = Command::new(path("well_behaved"))
        .env("PROCPOOL_SOCKET", &socket)
        .env_remove("PROCPOOL_FD")
        .process_group(0)
        .spawn()
        .unwrap();
    let _guard = GroupGuard::new(&child);
    let (connection, _) = listener.accept().unwrap();
    let mut server = FakeServer::welcome(connection, 4096, JOURNAL_BYTES);
    assert_eq!(server.call_one("power", Star, json!([2, 10])), json!(1024));
    server.shut_down();
    assert!(child.wait().unwrap().success());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the supervisor is not what is tested here")]
fn a_worker_that_was_started_by_hand_says_how_to_start_it() {
    for (name, value, message) in [
        ("X", "", "start it with `procpool serve -- COMMAND`"),
        ("PROCPOOL_FD", "three", "PROCPOOL_FD=three is not an inherited socket: it is not a number"),
        ("PROCPOOL_FD", "1", "PROCPOOL_FD=1 is not an inherited socket"),
        ("PROCPOOL_FD", "500", "PROCPOOL_FD=500 is not an inherited socket: Bad file descriptor"),
        ("PROCPOOL_SOCKET", "/no/such/socket", "cannot connect to PROCPOOL_SOCKET=/no/such/socket"),
    ] {
        let output = Command::new(path("well_behaved")).env_clear().env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("worker failed: ") && stderr.contains(message), "{stderr}");
    }
}

/// Each program that breaks the protocol breaks it as it says.
#[test]
fn the_vices_are_what_they_claim() {
    let run_two = |program: &str| {
        let mut process = start(program);
        process.server.run("echo", Map, &[json!(1), json!("two")]);
        process
    };

    let mut process = run_two("exit_zero_mid_chunk");
    assert_eq!(process.wait().code(), Some(0));
    let results = process.results_until_end();
    assert_eq!(value::list_from_bytes::<Value>(&results[0].items).unwrap(), [json!(1)]);
    assert_eq!(process.server.page().begun().unwrap(), 2);

    let mut process = run_two("wrong_chunk");
    assert_eq!(process.server.expect_results().chunk, 1001);
    let mut process = run_two("wrong_count");
    assert_eq!(process.server.expect_results().count, 3);
    let mut process = run_two("double_reply");
    let replies = [process.server.expect_results(), process.server.expect_results()];
    assert_eq!(replies[0], replies[1]);
    let mut process = run_two("empty_value");
    assert_eq!(&process.server.expect_results().items[..], b"\x0a\x00\x0a\x00");
    let mut process = run_two("reply_after_recall");
    process.server.recall(1, false);
    assert_eq!(process.server.expect_recalled().first_not_begun, 1);
    assert_eq!(process.server.expect_results().count, 2);
    let mut process = run_two("closes_channel");
    assert!(process.server.next_frame().is_none());
    assert!(process.child.try_wait().unwrap().is_none(), "it lives on");

    let mut process = run_two("no_page");
    for offset in 0..2 {
        assert!(matches!(process.server.expect_frame(), WorkerFrame::Started(started) if started.offset == offset));
        assert_eq!(process.server.expect_results().first, offset);
    }

    let (mut child, _socket, _guard) = spawn("crash_on_start");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}
