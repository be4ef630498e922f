//! A server that is played by the test: it sends frames and says what it got.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use procpool_ipc::page::PageReader;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{CallStyle, Hello, ItemFailure, ItemKind, Recall, Recalled, Results, Run, Shutdown, Welcome};
use procpool_ipc::{FrameDecoder, decode_worker_frame, encode_server_frame, receive, send_with_fd};
use procpool_items::{ItemSlab, SlabBuilder, value};
use procpool_worker::{Worker, WorkerError};
use serde_json::Value;

pub(crate) const JOURNAL_BYTES: u32 = 64 << 10;
/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server's end of the connection to one worker.
pub(crate) struct FakeServer {
    pub(crate) socket: UnixStream,
    pub(crate) page: PageReader,
    pub(crate) hello: Hello,
    decoder: FrameDecoder,
    next_chunk: u64,
    next_sequence: u64,
}

/// What became of a chunk.
#[derive(Debug, Default)]
pub(crate) struct ChunkOutcome {
    /// One for each item that has a result or failed; null where it failed.
    pub(crate) results: Vec<Value>,
    pub(crate) failures: Vec<ItemFailure>,
    pub(crate) num_frames: usize,
    pub(crate) busy: Duration,
}

impl FakeServer {
    /// Welcomes a worker at the other end of a socket and waits until it is ready.
    pub(crate) fn welcome(socket: UnixStream, max_frame_bytes: u32, journal_bytes: u32) -> Self {
        let mut server = Self::welcome_only(socket, max_frame_bytes, journal_bytes);
        let WorkerFrame::Hello(hello) = server.expect_frame() else { panic!("Hello comes first") };
        server.hello = hello;
        let WorkerFrame::Ready(_) = server.expect_frame() else { panic!("Ready comes next") };
        server
    }

    pub(crate) fn welcome_only(socket: UnixStream, max_frame_bytes: u32, journal_bytes: u32) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("the timeout is not 0");
        let (page, page_file) = PageReader::create(journal_bytes).expect("memory is available");
        let welcome = encode_server_frame(ServerFrame::Welcome(welcome_frame(max_frame_bytes, journal_bytes)));
        let sent = if journal_bytes > 0 {
            send_with_fd(&socket, &welcome, page_file.as_fd()).expect("the worker is there")
        } else {
            rustix::net::send(&socket, &welcome, rustix::net::SendFlags::empty()).expect("the worker is there")
        };
        assert_eq!(sent, welcome.len());
        Self {
            socket,
            page,
            hello: Hello::default(),
            decoder: FrameDecoder::new(max_frame_bytes),
            next_chunk: 1,
            next_sequence: 1,
        }
    }

    pub(crate) fn send(&mut self, frame: ServerFrame) {
        use std::io::Write;
        self.socket.write_all(&encode_server_frame(frame)).expect("the worker reads");
    }

    /// Returns the next frame; `None` at the end of the connection.
    pub(crate) fn next_frame(&mut self) -> Option<WorkerFrame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the worker keeps the limit") {
                return Some(decode_worker_frame(frame).expect("the worker keeps the protocol"));
            }
            match receive(&self.socket, &mut self.decoder) {
                Ok(0) => {
                    assert!(!self.decoder.has_partial_frame(), "the worker died within a frame");
                    return None;
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame came: {error}"),
            }
        }
    }

    pub(crate) fn expect_frame(&mut self) -> WorkerFrame {
        self.next_frame().expect("the worker has not ended")
    }

    pub(crate) fn expect_results(&mut self) -> Results {
        match self.expect_frame() {
            WorkerFrame::Results(results) => results,
            frame => panic!("results were expected, not {frame:?}"),
        }
    }

    pub(crate) fn expect_recalled(&mut self) -> Recalled {
        match self.expect_frame() {
            WorkerFrame::Recalled(recalled) => recalled,
            frame => panic!("Recalled was expected, not {frame:?}"),
        }
    }

    /// Sends items that are JSON values; returns the chunk's name and the sequence number of its first item.
    pub(crate) fn run(&mut self, function: &str, style: CallStyle, items: &[Value]) -> (u64, u64) {
        let items = value::list_to_bytes(items, value::NonFinite::Error).expect("the items are values");
        self.run_frame(Run {
            function: function.to_owned(),
            kind: ItemKind::Values.into(),
            style: style.into(),
            items,
            ..Run::default()
        })
    }

    /// Sends items that are blobs.
    pub(crate) fn run_blobs(&mut self, function: &str, style: CallStyle, content_type: &str, items: &[&[u8]]) -> u64 {
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

    /// Sends a chunk; fills in its name and the numbers of its items.
    pub(crate) fn run_frame(&mut self, mut run: Run) -> (u64, u64) {
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
        run.attempt = 1;
        self.next_chunk += 1;
        self.next_sequence += u64::from(run.count);
        self.send(ServerFrame::Run(run));
        names
    }

    /// Collects the results of a chunk of this many items.
    pub(crate) fn collect(&mut self, chunk: u64, count: usize) -> ChunkOutcome {
        let mut outcome = ChunkOutcome::default();
        while outcome.results.len() < count {
            let results = self.expect_results();
            assert_eq!(results.chunk, chunk);
            outcome.add(&results);
        }
        assert_eq!(outcome.results.len(), count);
        outcome
    }

    pub(crate) fn call(&mut self, function: &str, style: CallStyle, items: &[Value]) -> ChunkOutcome {
        let (chunk, _) = self.run(function, style, items);
        self.collect(chunk, items.len())
    }

    /// Calls a function with one item, which must succeed.
    pub(crate) fn call_one(&mut self, function: &str, style: CallStyle, item: Value) -> Value {
        let outcome = self.call(function, style, &[item]);
        assert_eq!(outcome.failures, [], "{function} failed");
        outcome.results.into_iter().next().expect("one item was sent")
    }

    /// Calls a function with one item, which must fail.
    pub(crate) fn fail_one(&mut self, function: &str, style: CallStyle, item: Value) -> ItemFailure {
        let outcome = self.call(function, style, &[item]);
        outcome.failures.into_iter().next().expect("the item fails")
    }

    pub(crate) fn recall(&mut self, chunk: u64, cancel: bool) {
        self.send(ServerFrame::Recall(Recall { chunk, cancel }));
    }

    pub(crate) fn shut_down(&mut self) {
        self.send(ServerFrame::Shutdown(Shutdown {}));
        assert!(self.next_frame().is_none(), "the worker ends");
    }
}

impl ChunkOutcome {
    /// Takes a frame's results, which must follow those before.
    pub(crate) fn add(&mut self, results: &Results) {
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

pub(crate) fn welcome_frame(max_frame_bytes: u32, journal_bytes: u32) -> Welcome {
    Welcome { protocol_version: 1, worker_id: 1, slot: 0, max_frame_bytes, journal_bytes }
}

pub(crate) fn blob_list(blobs: &[&[u8]]) -> Bytes {
    let mut builder = SlabBuilder::new();
    blobs.iter().for_each(|blob| builder.push(blob));
    builder.take()
}

/// Runs a worker in a thread of this process.
pub(crate) fn start(worker: Worker) -> (FakeServer, JoinHandle<Result<(), WorkerError>>) {
    start_with(worker, procpool_ipc::DEFAULT_MAX_FRAME_BYTES, JOURNAL_BYTES)
}

pub(crate) fn start_with(
    worker: Worker,
    max_frame_bytes: u32,
    journal_bytes: u32,
) -> (FakeServer, JoinHandle<Result<(), WorkerError>>) {
    let (server, thread) = start_unwelcomed(worker);
    (FakeServer::welcome(server, max_frame_bytes, journal_bytes), thread)
}

pub(crate) fn start_unwelcomed(worker: Worker) -> (UnixStream, JoinHandle<Result<(), WorkerError>>) {
    let (server, socket) = UnixStream::pair().expect("descriptors are available");
    (server, std::thread::spawn(move || worker.run_on(OwnedFd::from(socket))))
}
