//! How a worker starts, and how it ends when its server or its own code is broken.

use std::io::Write;
use std::sync::mpsc;

use bytes::Bytes;
use procpool_ipc::proto::CallStyle::Map;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{CallStyle, ItemKind, Ping, Run};
use procpool_ipc::{Frame as _, Peer};
use procpool_test_workers::{FakeServer, welcome_frame};
use procpool_worker::{Worker, WorkerError};
use serde_json::json;

use crate::in_thread::{start, start_unwelcomed};
use crate::protocol::{assert_quiet, worker};

#[test]
fn frames_may_come_with_the_welcome_in_any_pieces() {
    let (mut socket, thread) = start_unwelcomed(worker().0);
    let mut stream = ServerFrame::Welcome(welcome_frame(4096, 0)).encode().to_vec();
    stream.extend_from_slice(&ServerFrame::Ping(Ping { nonce: 1 }).encode());
    stream.extend_from_slice(&ServerFrame::Shutdown(procpool_ipc::proto::Shutdown {}).encode());
    for piece in stream.chunks(3) {
        socket.write_all(piece).unwrap();
    }
    thread.join().unwrap().unwrap();
    let mut peer = Peer::<ServerFrame>::new(socket, 4096);
    let frames: Vec<WorkerFrame> = std::iter::from_fn(|| peer.next_frame().unwrap()).collect();
    assert!(matches!(frames[..], [WorkerFrame::Hello(_), WorkerFrame::Ready(_), WorkerFrame::Pong(_)]), "{frames:?}");
}

#[test]
fn the_initializer_runs_before_ready_and_pings_are_answered_meanwhile() {
    let (go, go_receiver) = mpsc::channel();
    let worker = worker().0.initializer(move || go_receiver.recv());
    let (socket, thread) = start_unwelcomed(worker);
    let mut server = FakeServer::welcome_only(socket, 4096, 0);
    assert!(matches!(server.expect_frame(), WorkerFrame::Hello(_)));
    assert_quiet(&mut server);
    go.send(()).unwrap();
    assert!(matches!(server.expect_frame(), WorkerFrame::Ready(_)));
    server.shut_down();
    thread.join().unwrap().unwrap();
}

#[test]
fn an_initializer_that_fails_or_panics_ends_the_worker() {
    for panics in [false, true] {
        let worker = Worker::new().initializer(move || -> Result<(), String> {
            assert!(!panics, "no such database");
            Err("no such database".to_owned())
        });
        let (socket, thread) = start_unwelcomed(worker);
        let mut server = FakeServer::welcome_only(socket, 4096, 0);
        assert!(matches!(server.expect_frame(), WorkerFrame::Hello(_)));
        assert!(server.next_frame().is_none());
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the worker's initialiser failed: no such database");
    }
}

/// Sends bytes after the Welcome; returns the worker's error.
fn error_after(bytes: &[u8]) -> WorkerError {
    let (socket, thread) = start_unwelcomed(worker().0);
    let mut server = FakeServer::welcome_only(socket, 4096, 0);
    server.peer.send_bytes(bytes.to_vec()).expect("the worker reads");
    thread.join().expect("the worker does not panic").expect_err("the worker gives up")
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    let error = error_after(b"\xff\xff\xff\xff");
    assert!(error.to_string().contains("a frame of 4294967295 bytes is over the limit of 4096"), "{error}");
    let error = error_after(b"\x00\x00\x00\x03\x12\x7f\x00");
    assert!(error.to_string().contains("malformed frame"), "{error}");
    let error = error_after(b"\x00\x00\x00\x00");
    assert!(error.to_string().contains("empty or unknown frame"), "{error}");
    let error = error_after(&ServerFrame::Welcome(welcome_frame(4096, 0)).encode());
    assert!(error.to_string().contains("second Welcome"), "{error}");

    let run = Run {
        chunk: 3,
        function: "identity".to_owned(),
        kind: ItemKind::Values.into(),
        style: Map.into(),
        count: 1,
        first_sequence: 1,
        ..Run::default()
    };
    let bad = [
        (run.clone(), "chunk 3 has fewer items than its count"),
        (
            Run { items: Bytes::from_static(b"\x0a\x09"), ..run.clone() },
            "chunk 3 has invalid items: the list is malformed",
        ),
        (Run { kind: 0, ..run.clone() }, "chunk 3 has no item kind"),
        (Run { style: 0, ..run.clone() }, "chunk 3 has no call style"),
        (
            Run { style: CallStyle::Apply.into(), items: Bytes::from_static(b"\xff"), ..run.clone() },
            "chunk 3 does not have exactly one item",
        ),
        (
            Run { style: CallStyle::Apply.into(), items: Bytes::from_static(b"\x0a\x01\xff"), ..run },
            "chunk 3 has malformed arguments",
        ),
    ];
    for (run, message) in bad {
        let error = error_after(&ServerFrame::Run(run).encode());
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn garbage_while_an_item_runs_ends_the_worker_after_it() {
    let (worker, gate) = worker();
    let (mut server, thread) = start(worker);
    let (chunk, _) = server.run("gate_from", Map, &[json!(100)]);
    gate.wait_for(100);
    server.peer.send_bytes(&b"\xff\xff\xff\xff"[..]).unwrap();
    gate.open();
    assert_eq!(server.collect(chunk, 1).results, [json!(100)]);
    assert!(server.next_frame().is_none());
    let error = thread.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("over the limit"), "{error}");
}

#[test]
fn a_bad_welcome_is_refused() {
    let welcome = welcome_frame(4096, 0);
    let bad = [
        (ServerFrame::Ping(Ping { nonce: 1 }), "its first frame is not Welcome"),
        (
            ServerFrame::Welcome(procpool_ipc::proto::Welcome { protocol_version: 2, ..welcome }),
            "it speaks version 2, this worker version 1",
        ),
        (
            ServerFrame::Welcome(procpool_ipc::proto::Welcome { max_frame_bytes: 100, ..welcome }),
            "max_frame_bytes is 100, less than 1024",
        ),
    ];
    for (frame, message) in bad {
        let (mut socket, thread) = start_unwelcomed(worker().0);
        socket.write_all(&frame.encode()).unwrap();
        let error = thread.join().unwrap().unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    // A server that goes away without a word is no error.
    let (socket, thread) = start_unwelcomed(worker().0);
    drop(socket);
    thread.join().unwrap().unwrap();
}

#[test]
fn descriptions_that_do_not_fit_are_an_error() {
    let function = procpool_worker::Function::new("f", || 1).doc("d".repeat(5000));
    let (socket, thread) = start_unwelcomed(Worker::new().register(function));
    let _server = FakeServer::welcome_only(socket, 4096, 0);
    let error = thread.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("a frame holds 4096"), "{error}");
}
