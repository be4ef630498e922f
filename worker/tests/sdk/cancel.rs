//! Who is told that it should end: the item that is meant, and no other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use procpool_ipc::DEFAULT_MAX_FRAME_BYTES;
use procpool_ipc::proto::CallStyle::Map;
use procpool_ipc::proto::Ping;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_test_workers::{ChunkOutcome, FakeServer, JOURNAL_BYTES};
use procpool_worker::{Worker, cancelled};
use serde_json::{Value, json};

use crate::in_thread::start_with;

/// A worker whose function `ask` tells when it has begun, waits until it may go on, and returns its item and whether it
/// is cancelled.
struct Asking {
    server: FakeServer,
    begun: mpsc::Receiver<u64>,
    go: mpsc::Sender<()>,
    /// How often the hook was called.
    num_calls: Arc<AtomicU32>,
}

impl Asking {
    fn start(journal_bytes: u32) -> Self {
        let (begun_sender, begun) = mpsc::channel();
        let (go, go_receiver) = mpsc::channel();
        let num_calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&num_calls);
        let ask = move |item: u64| {
            begun_sender.send(item).expect("the test listens");
            go_receiver.recv().expect("the test lets it go on");
            (item, cancelled())
        };
        let worker = Worker::new().function("ask", ask).on_cancel(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let (server, _thread) = start_with(worker, DEFAULT_MAX_FRAME_BYTES, journal_bytes);
        Self { server, begun, go, num_calls }
    }

    fn wait_for(&self, item: u64) {
        assert_eq!(self.begun.recv_timeout(Duration::from_secs(20)), Ok(item));
    }

    fn go_on(&self) {
        self.go.send(()).expect("the function waits");
    }

    /// Takes what comes until the worker has read all that was sent to it. Returns what Recalled said.
    fn until_pong(&mut self, outcome: &mut ChunkOutcome) -> Option<u32> {
        self.server.send(ServerFrame::Ping(Ping { nonce: 1 }));
        let mut first_not_begun = None;
        loop {
            match self.server.expect_frame() {
                WorkerFrame::Results(results) => outcome.add(&results),
                WorkerFrame::Recalled(recalled) => first_not_begun = Some(recalled.first_not_begun),
                WorkerFrame::Pong(_) => return first_not_begun,
                WorkerFrame::Started(_) => {}
                frame => panic!("unexpected {frame:?}"),
            }
        }
    }

    /// Runs items from 1 on, and says while the second runs that the time of these is up. Returns what came back.
    fn cancel_during_the_second(&mut self, count: u64, offsets: &[u32]) -> Vec<Value> {
        let items: Vec<Value> = (1..=count).map(Value::from).collect();
        let (chunk, _) = self.server.run("ask", Map, &items);
        self.wait_for(1);
        self.go_on();
        self.wait_for(2);
        for &offset in offsets {
            self.server.cancel_item(chunk, offset);
        }
        let mut outcome = ChunkOutcome::default();
        let first_not_begun = self.until_pong(&mut outcome);
        assert_eq!(first_not_begun, (!offsets.is_empty()).then_some(2), "whoever is meant, the rest is given back");
        self.go_on();
        while outcome.results.len() < 2 {
            assert_eq!(self.until_pong(&mut outcome), None);
        }
        outcome.results
    }
}

#[test]
fn no_item_is_told_for_the_one_before_it_or_one_that_never_was() {
    for journal_bytes in [JOURNAL_BYTES, 0] {
        let mut worker = Asking::start(journal_bytes);
        // The time of the first was up, and it has ended when the worker learns so.
        let results = worker.cancel_during_the_second(3, &[0, 2, 1_000_000]);
        assert_eq!(results, [json!([1, false]), json!([2, false])]);
        assert_eq!(worker.num_calls.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn the_item_that_is_meant_is_told_and_nothing_is_kept_for_later() {
    for journal_bytes in [JOURNAL_BYTES, 0] {
        let mut worker = Asking::start(journal_bytes);
        assert_eq!(worker.cancel_during_the_second(3, &[1]), [json!([1, false]), json!([2, true])]);
        assert_eq!(worker.num_calls.load(Ordering::Relaxed), 1);
        assert_eq!(worker.cancel_during_the_second(2, &[]), [json!([1, false]), json!([2, false])]);
    }
}
