//! How a worker talks to its server: order, coalescing, recall, limits.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use procpool_ipc::DEFAULT_MAX_FRAME_BYTES;
use procpool_ipc::proto::CallStyle::Map;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{FailureKind, ItemKind, Ping, Recalled, Run, Started};
use procpool_items::value;
use procpool_test_workers::{ChunkOutcome, FakeServer, JOURNAL_BYTES};
use procpool_worker::Worker;
use serde_json::{Value, json};

use crate::in_thread::{start, start_with};

/// Lets the items of the function `gate` go, and tells when each begins.
pub(crate) struct Gate {
    begun: mpsc::Receiver<u64>,
    go: mpsc::Sender<()>,
}

impl Gate {
    pub(crate) fn wait_for(&self, item: u64) {
        assert_eq!(self.begun.recv_timeout(Duration::from_secs(20)), Ok(item));
    }

    pub(crate) fn open(&self) {
        self.go.send(()).expect("the function waits");
    }
}

/// A worker with a function `gate_from` that waits if its item is 100 or more, `identity`, `fail`, and `repeat(n)`, a string of n bytes.
pub(crate) fn worker() -> (Worker, Gate) {
    let (begun_sender, begun) = mpsc::channel();
    let (go, go_receiver) = mpsc::channel();
    let worker = Worker::new()
        .function("identity", |item: Value| item)
        .function("repeat", |count: usize| "x".repeat(count))
        .function("gate_from", {
            // Items below 100 go at once.
            move |item: u64| {
                if item >= 100 {
                    begun_sender.send(item).expect("the test listens");
                    go_receiver.recv().expect("the test opens the gate");
                }
                item
            }
        })
        .try_function(
            "fail_odd",
            |item: u64| if item.is_multiple_of(2) { Ok(item) } else { Err(format!("{item} is odd")) },
        );
    (worker, Gate { begun, go })
}

fn numbers(items: std::ops::Range<u64>) -> Vec<Value> {
    items.map(Value::from).collect()
}

/// Asks for a Pong, and so proves that nothing else came before.
pub(crate) fn assert_quiet(server: &mut FakeServer) {
    server.send(ServerFrame::Ping(Ping { nonce: 77 }));
    match server.expect_frame() {
        WorkerFrame::Pong(pong) => assert_eq!(pong.nonce, 77),
        frame => panic!("nothing was expected, not {frame:?}"),
    }
}

#[test]
fn results_come_in_order_and_many_at_a_time() {
    let (mut server, thread) = start(worker().0);
    let items = numbers(0..20_000);
    let outcome = server.call("identity", Map, &items);
    assert_eq!(outcome.results, items);
    assert!(outcome.num_frames < 2000, "{} frames for 20,000 results", outcome.num_frames);
    assert!(outcome.busy > Duration::ZERO);
    server.shut_down();
    thread.join().unwrap().unwrap();
}

#[test]
fn chunks_are_worked_through_in_the_order_of_the_frames() {
    let (mut server, _thread) = start(worker().0);
    let chunks: Vec<u64> = (0..50).map(|index| server.run("identity", Map, &numbers(index..index + 3)).0).collect();
    for (index, chunk) in (0..50).zip(chunks) {
        assert_eq!(server.collect(chunk, 3).results, numbers(index..index + 3));
    }
}

#[test]
fn a_result_does_not_wait_for_a_long_item_after_it() {
    let (worker, gate) = worker();
    let (mut server, _thread) = start(worker);
    for _ in 0..3 {
        let (chunk, first_sequence) = server.run("gate_from", Map, &[json!(1), json!(2), json!(100)]);
        gate.wait_for(100);
        // Nobody opens the gate: the two results come all the same.
        let outcome = server.collect(chunk, 2);
        assert_eq!(outcome.results, [json!(1), json!(2)]);
        assert_quiet(&mut server);
        assert_eq!(server.page().begun().unwrap(), first_sequence + 2);
        assert_eq!(server.page().journal().unwrap(), None);
        gate.open();
        let last = server.expect_results();
        assert_eq!((last.first, last.count), (2, 1));
    }
}

#[test]
fn a_result_of_a_long_item_does_not_wait() {
    let (worker, gate) = worker();
    let (mut server, _thread) = start(worker);
    server.run("gate_from", Map, &[json!(100), json!(1), json!(101)]);
    gate.wait_for(100);
    gate.open();
    gate.wait_for(101);
    let mut outcome = ChunkOutcome::default();
    while outcome.results.len() < 2 {
        outcome.add(&server.expect_results());
    }
    gate.open();
    outcome.add(&server.expect_results());
    assert_eq!(outcome.results, [json!(100), json!(1), json!(101)]);
}

#[test]
fn a_failure_comes_at_its_place() {
    let (mut server, _thread) = start(worker().0);
    let outcome = server.call("fail_odd", Map, &numbers(0..7));
    assert_eq!(outcome.results, [json!(0), json!(null), json!(2), json!(null), json!(4), json!(null), json!(6)]);
    let failed: Vec<_> = outcome.failures.iter().map(|failure| (failure.offset, failure.message.as_str())).collect();
    assert_eq!(failed, [(1, "1 is odd"), (3, "3 is odd"), (5, "5 is odd")]);
}

#[test]
fn a_recall_says_exactly_what_has_not_begun() {
    let (worker, gate) = worker();
    let (mut server, _thread) = start(worker);
    let (chunk, first_sequence) = server.run("gate_from", Map, &numbers(98..110));
    let queued = server.run("identity", Map, &numbers(0..5)).0;
    gate.wait_for(100);
    assert_eq!(server.collect(chunk, 2).results, [json!(98), json!(99)]);

    server.recall(chunk, false);
    assert_eq!(server.expect_recalled(), Recalled { chunk, first_not_begun: 3 });
    server.recall(queued, false);
    assert_eq!(server.expect_recalled(), Recalled { chunk: queued, first_not_begun: 0 });
    // Neither is answered twice, nor is a chunk that never was.
    server.recall(chunk, true);
    server.recall(queued, false);
    server.recall(999, false);
    assert_quiet(&mut server);

    gate.open();
    let last = server.expect_results();
    assert_eq!((last.chunk, last.first, last.count), (chunk, 2, 1));
    assert_quiet(&mut server);
    assert_eq!(server.page().begun().unwrap(), first_sequence + 2);
    assert_eq!(server.call_one("identity", Map, json!("next")), json!("next"));
}

#[test]
fn a_recall_of_the_last_item_says_that_all_have_begun() {
    let (worker, gate) = worker();
    let (mut server, _thread) = start(worker);
    let (chunk, _) = server.run("gate_from", Map, &[json!(100)]);
    gate.wait_for(100);
    server.recall(chunk, false);
    assert_eq!(server.expect_recalled(), Recalled { chunk, first_not_begun: 1 });
    gate.open();
    assert_eq!(server.collect(chunk, 1).results, [json!(100)]);
    // It is finished.
    server.recall(chunk, false);
    assert_quiet(&mut server);
}

/// Recalls at every moment of a chunk's life: each item either has a result or was given back.
#[test]
fn no_item_is_lost_or_run_twice_by_recalls() {
    let (mut server, _thread) = start(worker().0);
    for round in 0..300_u64 {
        let items = numbers(0..200);
        let (chunk, _) = server.run("identity", Map, &items);
        for _ in 0..round * 40 {
            std::hint::spin_loop();
        }
        server.recall(chunk, false);
        server.send(ServerFrame::Ping(Ping { nonce: round }));
        let mut outcome = ChunkOutcome::default();
        let mut first_not_begun = None;
        let mut was_ponged = false;
        while !was_ponged || outcome.results.len() < first_not_begun.unwrap_or(items.len()) {
            match server.expect_frame() {
                WorkerFrame::Results(results) => outcome.add(&results),
                WorkerFrame::Recalled(recalled) => {
                    assert_eq!((recalled.chunk, first_not_begun), (chunk, None));
                    assert!(recalled.first_not_begun as usize >= outcome.results.len());
                    first_not_begun = Some(recalled.first_not_begun as usize);
                }
                WorkerFrame::Pong(pong) => was_ponged = pong.nonce == round,
                frame => panic!("unexpected {frame:?}"),
            }
        }
        let count = first_not_begun.unwrap_or(items.len());
        assert_eq!(outcome.results, items[..count]);
        assert_quiet(&mut server);
    }
}

#[test]
fn pings_are_answered_while_an_item_runs() {
    let (worker, gate) = worker();
    let (mut server, _thread) = start(worker);
    assert_quiet(&mut server);
    server.run("gate_from", Map, &[json!(100)]);
    gate.wait_for(100);
    for _ in 0..100 {
        assert_quiet(&mut server);
    }
    gate.open();
    assert_eq!(server.expect_results().count, 1);
    assert_quiet(&mut server);
}

#[test]
fn the_page_tells_what_has_begun_and_when() {
    let (worker, gate) = worker();
    let (mut server, _thread) = start(worker);
    server.run("gate_from", Map, &[json!(100)]);
    gate.wait_for(100);
    assert_eq!(server.page().begun().unwrap(), 1);
    assert_eq!(server.page().begun_at_ns().unwrap(), 0, "nobody asked for stamps");
    gate.open();
    server.expect_results();

    let before = procpool_ipc::page::monotonic_ns();
    let items = value::list_to_bytes([100, 101], value::NonFinite::Error).unwrap();
    let (chunk, first_sequence) = server.run_frame(Run {
        function: "gate_from".to_owned(),
        kind: ItemKind::Values.into(),
        style: Map.into(),
        stamp_start: true,
        items,
        ..Run::default()
    });
    gate.wait_for(100);
    let first_begun_at = server.page().begun_at_ns().unwrap();
    assert!(first_begun_at >= before && first_begun_at <= procpool_ipc::page::monotonic_ns());
    gate.open();
    gate.wait_for(101);
    assert_eq!(server.page().begun().unwrap(), first_sequence + 1);
    assert!(server.page().begun_at_ns().unwrap() > first_begun_at);
    gate.open();
    assert!(server.collect(chunk, 2).busy > Duration::ZERO);
}

#[test]
fn without_a_page_each_item_is_announced() {
    let (mut server, _thread) = start_with(worker().0, DEFAULT_MAX_FRAME_BYTES, 0);
    assert!(!server.hello.uses_progress_page);
    let (chunk, _) = server.run("fail_odd", Map, &numbers(0..3));
    for offset in 0..3 {
        let WorkerFrame::Started(started) = server.expect_frame() else { panic!("Started comes first") };
        assert_eq!(started, Started { chunk, offset });
        let results = server.expect_results();
        assert_eq!((results.first, results.count), (offset, 1));
    }
}

#[test]
fn no_frame_is_over_the_limit() {
    // The fake server refuses frames over the limit.
    let (mut server, _thread) = start_with(worker().0, 2048, JOURNAL_BYTES);
    for (length, fits) in [(1900, true), (1960, true), (2048, false), (5000, false)] {
        let outcome = server.call("repeat", Map, &[json!(1), json!(length), json!(2)]);
        assert_eq!((&outcome.results[0], &outcome.results[2]), (&json!("x"), &json!("xx")));
        if fits {
            assert_eq!(outcome.results[1].as_str().map(str::len), Some(length));
        } else {
            let failure = &outcome.failures[0];
            assert_eq!((failure.offset, failure.kind()), (1, FailureKind::NotEncodable));
            let message = format!("the result has {} bytes, and a frame holds 1984", length + 3);
            assert_eq!(failure.message, message);
        }
    }
    // Together they are over it, each is not.
    let outcome = server.call("repeat", Map, &vec![json!(900); 50]);
    assert_eq!(outcome.failures, []);
    assert!(outcome.num_frames >= 25, "two results fit a frame, not {}", 50 / outcome.num_frames);
}

#[test]
fn a_failure_with_much_to_say_is_cut_to_the_limit() {
    let worker = Worker::new().try_function("fail", |count: usize| -> Result<(), String> { Err("y".repeat(count)) });
    let (mut server, _thread) = start_with(worker, 1024, JOURNAL_BYTES);
    let failure = server.fail_one("fail", Map, json!(100_000));
    assert!(failure.message.len() > 200 && failure.message.ends_with("(cut)"), "{}", failure.message);
}

#[test]
fn results_larger_than_the_journal_are_sent_as_they_are() {
    let (mut server, _thread) = start(worker().0);
    let sizes = [10, 70_000, 10, 65_520, 65_528, 65_529, 1_000_000, 0];
    let outcome = server.call("repeat", Map, &sizes.map(Value::from));
    let lengths: Vec<_> = outcome.results.iter().map(|result| result.as_str().unwrap().len()).collect();
    assert_eq!(lengths, sizes);
}

#[test]
fn a_large_blob_comes_back_as_it_was() {
    let (mut server, _thread) = start(Worker::new().bytes_function("echo", Ok::<Bytes, String>));
    let blob: Vec<u8> = (0..3_000_000_u32).map(|index| index.to_le_bytes()[index as usize % 3]).collect();
    server.run_blobs("echo", Map, "", &[&blob, b"", &blob]);
    let mut items = Vec::new();
    while items.len() < 3 {
        let results = server.expect_results();
        items.extend(procpool_items::Records::new(&results.items).map(|item| item.unwrap().to_vec()));
    }
    assert!(items == [&blob[..], b"", &blob]);
}

#[test]
fn shutdown_finishes_the_item_that_runs() {
    let (worker, gate) = worker();
    let (mut server, thread) = start(worker);
    let (chunk, _) = server.run("gate_from", Map, &[json!(1), json!(100), json!(101)]);
    server.run("identity", Map, &[json!("never")]);
    gate.wait_for(100);
    server.send(ServerFrame::Shutdown(procpool_ipc::proto::Shutdown {}));
    assert_quiet_but_results(&mut server, chunk);
    gate.open();
    // That of the first item may have come before it, or not.
    let last = server.expect_results();
    assert_eq!(last.first + last.count, 2, "{last:?}");
    assert!(server.next_frame().is_none());
    thread.join().unwrap().unwrap();
}

/// The shutdown is known to the worker once a later Ping is answered.
fn assert_quiet_but_results(server: &mut FakeServer, chunk: u64) {
    server.send(ServerFrame::Ping(Ping { nonce: 5 }));
    loop {
        match server.expect_frame() {
            WorkerFrame::Results(results) => assert_eq!((results.chunk, results.first, results.count), (chunk, 0, 1)),
            WorkerFrame::Pong(_) => return,
            frame => panic!("unexpected {frame:?}"),
        }
    }
}

#[test]
fn an_idle_worker_ends_with_its_server() {
    let (mut server, thread) = start(worker().0);
    assert_eq!(server.call_one("identity", Map, json!(1)), json!(1));
    drop(server);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_worker_that_was_idle_for_long_still_answers() {
    let (mut server, thread) = start(worker().0);
    for pause in [0, 1, 5, 40, 1, 40] {
        // Longer than the poll interval of the I/O thread: this tests the worker's timing.
        std::thread::sleep(Duration::from_millis(pause));
        assert_eq!(server.call("identity", Map, &numbers(0..10)).results, numbers(0..10));
        assert_quiet(&mut server);
    }
    server.shut_down();
    thread.join().unwrap().unwrap();
}
