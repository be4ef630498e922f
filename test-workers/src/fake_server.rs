//! A fake server for tests: sends frames and returns what the worker sent.
#![expect(clippy::missing_panics_doc, reason = "what helps a test panics when the test has failed")]

use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use procpool_ipc::Peer;
use procpool_ipc::page::PageReader;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{CallStyle, Hello, ItemFailure, ItemKind, Recall, Recalled, Results, Run, Shutdown, Welcome};
use procpool_items::{ItemSlab, SlabBuilder, value};
use serde_json::Value;

/// The size of the journal that most tests use.
pub const JOURNAL_BYTES: u32 = 64 << 10;
/// Longer than any wait here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server's end of the connection to one worker.
#[derive(Debug)]
pub struct FakeServer {
    /// The connection.
    pub peer: Peer<ServerFrame>,
    page: Option<PageReader>,
    /// The worker's Hello.
    pub hello: Hello,
    next_chunk: u64,
    next_sequence: u64,
}

/// The outcome of a chunk.
#[derive(Debug, Default)]
pub struct ChunkOutcome {
    /// One for each item with a result or a failure; null for a failure.
    pub results: Vec<Value>,
    /// The failures, by increasing offset.
    pub failures: Vec<ItemFailure>,
    /// The number of Results frames.
    pub num_frames: usize,
    /// The run time of the items, as the worker reported it.
    pub busy: Duration,
}

impl FakeServer {
    /// Sends Welcome over a socket and waits until the worker is ready.
    pub fn welcome(socket: UnixStream, max_frame_bytes: u32, journal_bytes: u32) -> Self {
        let mut server = Self::welcome_only(socket, max_frame_bytes, journal_bytes);
        let WorkerFrame::Hello(hello) = server.expect_frame() else { panic!("Hello comes first") };
        server.hello = hello;
        let WorkerFrame::Ready(_) = server.expect_frame() else { panic!("Ready comes next") };
        server
    }

    /// Sends Welcome over a socket without waiting.
    pub fn welcome_only(socket: UnixStream, max_frame_bytes: u32, journal_bytes: u32) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("the timeout is not 0");
        let welcome = welcome_frame(max_frame_bytes, journal_bytes);
        let (peer, page) = Peer::welcome(socket, welcome).expect("the worker is there");
        Self { peer, page, hello: Hello::default(), next_chunk: 1, next_sequence: 1 }
    }

    /// Returns the worker's progress page.
    pub fn page(&self) -> &PageReader {
        self.page.as_ref().expect("the worker was sent a journal")
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: ServerFrame) {
        self.peer.send(frame).expect("the worker reads");
    }

    /// Returns the next frame; `None` at the end of the connection.
    pub fn next_frame(&mut self) -> Option<WorkerFrame> {
        self.peer.next_frame().expect("the worker keeps the protocol")
    }

    /// Returns the next frame; fails if the connection ends.
    pub fn expect_frame(&mut self) -> WorkerFrame {
        self.next_frame().expect("the worker has not ended")
    }

    /// Returns the next frame, which must be Results.
    pub fn expect_results(&mut self) -> Results {
        match self.expect_frame() {
            WorkerFrame::Results(results) => results,
            frame => panic!("results were expected, not {frame:?}"),
        }
    }

    /// Returns the next frame, which must be Recalled.
    pub fn expect_recalled(&mut self) -> Recalled {
        match self.expect_frame() {
            WorkerFrame::Recalled(recalled) => recalled,
            frame => panic!("Recalled was expected, not {frame:?}"),
        }
    }

    /// Sends a chunk of JSON values; returns its id and the sequence number of its first item.
    pub fn run(&mut self, function: &str, style: CallStyle, items: &[Value]) -> (u64, u64) {
        let items = value::list_to_bytes(items, value::NonFinite::Error).expect("the items are values");
        self.run_frame(Run {
            function: function.to_owned(),
            kind: ItemKind::Values.into(),
            style: style.into(),
            items,
            ..Run::default()
        })
    }

    /// Sends a chunk of blobs.
    pub fn run_blobs(&mut self, function: &str, style: CallStyle, content_type: &str, items: &[&[u8]]) -> u64 {
        self.run_frame(Run {
            function: function.to_owned(),
            kind: ItemKind::Blobs.into(),
            content_type: content_type.to_owned(),
            style: style.into(),
            items: blob_list(items),
            ..Run::default()
        })
        .0
    }

    /// Sends a chunk, with its id and sequence numbers filled in.
    pub fn run_frame(&mut self, mut run: Run) -> (u64, u64) {
        let names = (self.next_chunk, self.next_sequence);
        if run.count == 0 {
            run.count = if run.style() == CallStyle::Apply {
                1
            } else {
                let count = ItemSlab::count(procpool_items::ItemKind::Blobs, &run.items).expect("it is a list");
                u32::try_from(count).expect("there are few")
            };
        }
        (run.chunk, run.first_sequence) = names;
        run.attempt = run.attempt.max(1);
        self.next_chunk += 1;
        self.next_sequence += u64::from(run.count);
        self.send(ServerFrame::Run(run));
        names
    }

    /// Collects the results of a chunk of this many items.
    pub fn collect(&mut self, chunk: u64, count: usize) -> ChunkOutcome {
        let mut outcome = ChunkOutcome::default();
        while outcome.results.len() < count {
            let results = self.expect_results();
            assert_eq!(results.chunk, chunk);
            outcome.add(&results);
        }
        assert_eq!(outcome.results.len(), count);
        outcome
    }

    /// Sends items that are JSON values and collects their results.
    pub fn call(&mut self, function: &str, style: CallStyle, items: &[Value]) -> ChunkOutcome {
        let (chunk, _) = self.run(function, style, items);
        self.collect(chunk, items.len())
    }

    /// Calls a function with one item, which must succeed.
    pub fn call_one(&mut self, function: &str, style: CallStyle, item: Value) -> Value {
        let outcome = self.call(function, style, &[item]);
        assert_eq!(outcome.failures, [], "{function} failed");
        outcome.results.into_iter().next().expect("one item was sent")
    }

    /// Calls a function with one item, which must fail.
    pub fn fail_one(&mut self, function: &str, style: CallStyle, item: Value) -> ItemFailure {
        let outcome = self.call(function, style, &[item]);
        outcome.failures.into_iter().next().expect("the item fails")
    }

    /// Recalls a chunk.
    pub fn recall(&mut self, chunk: u64, cancel: bool) {
        self.send(ServerFrame::Recall(Recall { chunk, cancel, cancel_offset: None }));
    }

    /// Recalls a chunk and cancels one of its items as timed out.
    pub fn cancel_item(&mut self, chunk: u64, offset: u32) {
        self.send(ServerFrame::Recall(Recall { chunk, cancel: true, cancel_offset: Some(offset) }));
    }

    /// Sends Shutdown to an idle worker and waits for its exit.
    pub fn shut_down(&mut self) {
        self.send(ServerFrame::Shutdown(Shutdown {}));
        assert!(self.next_frame().is_none(), "the worker ends");
    }
}

impl ChunkOutcome {
    /// Adds the results of a frame, which must follow the previous ones.
    pub fn add(&mut self, results: &Results) {
        assert_eq!(results.first as usize, self.results.len(), "results come in order and without gaps");
        let values: Vec<Value> = value::list_from_bytes(&results.items).expect("results are values");
        assert_eq!(values.len(), results.count as usize);
        for failure in &results.failures {
            assert_eq!(values[(failure.offset - results.first) as usize], Value::Null);
        }
        self.results.extend(values);
        self.failures.extend(results.failures.iter().cloned());
        self.num_frames += 1;
        self.busy += Duration::from_nanos(results.busy_ns);
    }
}

/// Returns a Welcome frame.
pub fn welcome_frame(max_frame_bytes: u32, journal_bytes: u32) -> Welcome {
    Welcome { protocol_version: 1, worker_id: 1, slot: 0, max_frame_bytes, journal_bytes, dump_pipe: false }
}

/// Returns an encoded list of blobs.
pub fn blob_list(blobs: &[&[u8]]) -> Bytes {
    let mut builder = SlabBuilder::new();
    for blob in blobs {
        builder.push(blob);
    }
    builder.take()
}
