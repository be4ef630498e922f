//! When a worker is asked for a sign of life, and when it is killed for want of one: a session with a played process,
//! on a clock that the test moves.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::{FrameDecoder, decode_server_frame, encode_worker_frame, proto};
use procpool_items::{ItemKind, SlabBuilder};
use procpool_scheduler::{ChunkId, SlotId, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};

use super::{Session, Started};
use crate::call::CallStyle;
use crate::error::ExitUsage;
use crate::supervisor::output::Output;
use crate::supervisor::process_group::Process;
use crate::supervisor::{ChunkRun, MemoryLimits, WorkerCommand, WorkerEvent};

const MAX_FRAME_BYTES: u32 = 16 << 20;
const MINUTE: Duration = Duration::from_secs(60);
/// How often the played worker looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What there was to see when a process was killed.
#[derive(Debug, Clone, Copy)]
struct Death {
    at: Instant,
    /// How much of its output was not read.
    bytes_unread: u64,
}

/// A process that dies when it is killed.
#[derive(Debug)]
struct Puppet {
    death: Arc<watch::Sender<Option<Death>>>,
    stdout: Arc<OwnedFd>,
}

impl Process for Puppet {
    fn pid(&self) -> u32 {
        1 << 30
    }

    fn terminate(&self) {}

    fn kill(&self) {
        let bytes_unread = rustix::io::ioctl_fionread(&*self.stdout).unwrap();
        self.death.send_if_modified(|death| death.replace(Death { at: Instant::now(), bytes_unread }).is_none());
    }

    async fn dead(&self) {
        self.death.subscribe().wait_for(Option::is_some).await.unwrap();
    }

    fn bury(&mut self) -> io::Result<(ExitStatus, ExitUsage)> {
        Ok((ExitStatus::from_raw(9), ExitUsage::default()))
    }
}

/// A worker without a progress page, in the hands of the test.
struct Worker {
    socket: UnixStream,
    decoder: FrameDecoder,
    stdout: Arc<OwnedFd>,
    commands: mpsc::Sender<WorkerCommand>,
    events: mpsc::Receiver<WorkerEvent>,
    death: watch::Receiver<Option<Death>>,
    session: JoinHandle<()>,
}

impl Worker {
    /// Returns a worker that is ready, and whose driver has room for so many events.
    async fn ready(event_capacity: usize) -> Self {
        let (stream, socket) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).and_then(|()| socket.set_nonblocking(true)).unwrap();
        let (stdout_reader, stdout) = io::pipe().unwrap();
        let stdout = Arc::new(OwnedFd::from(stdout));
        let silent = || OwnedFd::from(io::pipe().unwrap().0);
        let death = Arc::new(watch::Sender::new(None));
        let started = Started {
            worker: WorkerId { slot: SlotId(0), generation: 1 },
            process: Puppet { death: Arc::clone(&death), stdout: Arc::clone(&stdout) },
            stream: tokio::net::UnixStream::from_std(stream).unwrap(),
            page: None,
            dumps: tokio::net::unix::pipe::Receiver::from_owned_fd(silent()).unwrap(),
            output: Output::new(stdout_reader.into(), silent()).unwrap(),
            max_frame_bytes: MAX_FRAME_BYTES,
            memory: MemoryLimits::default(),
        };
        let (event_sender, events) = mpsc::channel(event_capacity);
        let (commands, command_receiver) = mpsc::channel(32);
        #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of the test")]
        let session = tokio::spawn(Session::new(started, event_sender).run(command_receiver));
        let decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        let mut worker = Self { socket, decoder, stdout, commands, events, death: death.subscribe(), session };
        let functions = vec![proto::Function { name: "f".to_owned(), ..Default::default() }];
        let protocol_version = procpool_ipc::PROTOCOL_VERSION;
        worker.send(WorkerFrame::Hello(proto::Hello { protocol_version, functions, ..Default::default() }));
        worker.send(WorkerFrame::Ready(proto::Ready {}));
        for _ in 0..2 {
            worker.events.recv().await.unwrap();
        }
        worker
    }

    fn send(&mut self, frame: WorkerFrame) {
        self.socket.write_all(&encode_worker_frame(frame)).unwrap();
    }

    /// Gives it a chunk of one item of so many bytes.
    async fn run(&self, chunk: u64, item_bytes: usize, time_limit: Option<Duration>) {
        let mut items = SlabBuilder::new();
        items.push(&vec![b'x'; item_bytes]);
        let run = ChunkRun {
            chunk: ChunkId(chunk),
            job: 1,
            function: "f".into(),
            kind: ItemKind::Blobs,
            content_type: "".into(),
            style: CallStyle::Map,
            first_index: 0,
            count: 1,
            attempt: 1,
            time_limit,
            trace: Arc::default(),
            common: None,
            parts: vec![items.take()],
        };
        self.commands.send(WorkerCommand::Run(run)).await.unwrap();
    }

    fn begin(&mut self, chunk: u64) {
        self.send(WorkerFrame::Started(proto::Started { chunk, offset: 0 }));
    }

    fn finish(&mut self, chunk: u64) {
        let mut items = SlabBuilder::new();
        items.push(b"y");
        let results = proto::Results { chunk, count: 1, items: items.take(), ..Default::default() };
        self.send(WorkerFrame::Results(results));
    }

    fn pong(&mut self) {
        self.send(WorkerFrame::Pong(proto::Pong { nonce: 0 }));
    }

    /// Reads up to so many bytes that are there, without waiting. Returns the frames that are whole.
    fn read(&mut self, most: usize) -> Vec<ServerFrame> {
        let mut bytes = vec![0; most];
        match self.socket.read(&mut bytes) {
            Ok(length) => self.decoder.buffer().extend_from_slice(&bytes[..length]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        let mut frames = Vec::new();
        while let Some(frame) = self.decoder.next_frame().unwrap() {
            frames.push(decode_server_frame(frame).unwrap());
        }
        frames
    }

    /// Waits for a Ping, for a minute at most. Returns when it came.
    async fn next_ping(&mut self) -> Option<Instant> {
        let end = Instant::now() + MINUTE;
        while Instant::now() < end {
            if self.read(64 << 10).iter().any(|frame| matches!(frame, ServerFrame::Ping(_))) {
                return Some(Instant::now());
            }
            sleep(LOOK_INTERVAL).await;
        }
        None
    }

    /// Waits until it is killed, for a minute at most.
    async fn killed(&mut self) -> Option<Death> {
        let death = tokio::time::timeout(MINUTE, self.death.wait_for(Option::is_some)).await.ok()?;
        *death.unwrap()
    }
}

#[track_caller]
fn assert_about(instant: Instant, since: Instant, expected: Duration) {
    let late_by = instant.saturating_duration_since(since).abs_diff(expected);
    assert!(late_by <= 5 * LOOK_INTERVAL, "after {:?} instead of {expected:?}", instant - since);
}

#[tokio::test(start_paused = true)]
async fn a_silent_worker_is_asked_and_killed_within_its_items_limit_and_two_seconds() {
    let millis = Duration::from_millis;
    for (limit, asked_after) in
        [(None, 1000), (Some(3_600_000), 1000), (Some(1500), 750), (Some(500), 250), (Some(50), 100), (Some(1), 100)]
    {
        let mut worker = Worker::ready(8).await;
        let given = Instant::now();
        worker.run(1, 1, limit.map(millis)).await;
        assert_about(worker.next_ping().await.unwrap(), given, millis(asked_after));
        let killed = worker.killed().await.unwrap().at;
        assert_about(killed, given, millis(asked_after + 1800));
        assert!(killed - given <= millis(limit.unwrap_or(1000) + 2000));
        worker.session.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_is_asked_again_and_let_be() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    for _ in 0..20 {
        let asked = worker.next_ping().await.unwrap();
        // As late as it may be.
        sleep(Duration::from_millis(1700)).await;
        worker.pong();
        assert!(asked.elapsed() < Duration::from_millis(1800));
    }
    worker.next_ping().await.unwrap();
    assert!(worker.killed().await.is_some(), "when it answers no more");
}

#[tokio::test(start_paused = true)]
async fn one_that_has_begun_an_item_is_not_asked() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, Some(Duration::from_millis(100))).await;
    worker.begin(1);
    // Another chunk waits behind.
    worker.run(2, 1, None).await;
    assert_eq!(worker.next_ping().await, None);
    worker.finish(1);
    let finished = Instant::now();
    // Between half a look and one and a half, as the looks fall.
    let asked = worker.next_ping().await.unwrap();
    assert!(asked - finished <= Duration::from_millis(2100), "{:?}", asked - finished);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_nothing_to_run_is_not_asked_and_each_chunk_has_its_time() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    worker.begin(1);
    worker.finish(1);
    sleep(Duration::from_millis(900)).await;
    worker.run(2, 1, None).await;
    let given = Instant::now();
    assert_about(worker.next_ping().await.unwrap(), given, Duration::from_secs(1));
    // Nor does it count against it that it was asked for a chunk that is done.
    worker.pong();
    worker.begin(2);
    worker.finish(2);
    sleep(LOOK_INTERVAL).await;
    worker.run(3, 1, None).await;
    let given = Instant::now();
    assert_about(worker.next_ping().await.unwrap(), given, Duration::from_secs(1));
    worker.begin(3);
    worker.finish(3);
    assert_eq!(worker.next_ping().await, None);
}

#[tokio::test(start_paused = true)]
async fn one_that_reads_a_large_chunk_slowly_lives() {
    let mut worker = Worker::ready(8).await;
    // Far more than the socket holds.
    worker.run(1, 8 << 20, None).await;
    let mut frames = Vec::new();
    while frames.is_empty() {
        frames = worker.read(512 << 10);
        sleep(Duration::from_millis(1500)).await;
    }
    assert!(matches!(frames[0], ServerFrame::Run(_)));
    assert!(worker.death.borrow().is_none(), "it read all the time");
    assert!(worker.killed().await.is_some(), "and then it stopped");
}

#[tokio::test(start_paused = true)]
async fn one_that_has_much_to_decode_has_longer() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 8 << 20, None).await;
    let asked = loop {
        if worker.read(1 << 20).iter().any(|frame| matches!(frame, ServerFrame::Ping(_))) {
            break Instant::now();
        }
        sleep(LOOK_INTERVAL).await;
    };
    assert_about(worker.killed().await.unwrap().at, asked, Duration::from_millis(2800));
}

#[tokio::test(start_paused = true)]
async fn one_whose_answer_nobody_had_time_to_read_lives() {
    // There is room for one event, and the second waits in the session: it reads nothing more.
    let mut worker = Worker::ready(1).await;
    for chunk in 1..=3 {
        worker.run(chunk, 1, None).await;
    }
    for chunk in 1..=2 {
        worker.begin(chunk);
        worker.finish(chunk);
    }
    assert!(worker.killed().await.is_none(), "what it says waits to be read");
    for _ in 0..2 {
        worker.events.recv().await.unwrap();
    }
    assert!(worker.killed().await.is_some(), "it was given a third chunk, and does nothing");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_killed_for_a_time_in_which_the_machine_stood_still() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    worker.next_ping().await.unwrap();
    advance(MINUTE).await;
    sleep(Duration::from_secs(1)).await;
    assert!(worker.death.borrow().is_none(), "it has another chance");
    worker.pong();
    sleep(Duration::from_secs(1)).await;
    assert!(worker.death.borrow().is_none());
    // And an answer that was there in time counts when nobody was awake to read it.
    worker.next_ping().await.unwrap();
    worker.pong();
    advance(Duration::from_millis(1900)).await;
    sleep(LOOK_INTERVAL).await;
    assert!(worker.death.borrow().is_none());
    assert!(worker.killed().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn output_does_not_hold_up_the_end_of_a_worker() {
    for closes in [true, false] {
        let mut worker = Worker::ready(8).await;
        worker.run(1, 1, None).await;
        if closes {
            worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
        } else {
            worker.next_ping().await.unwrap();
        }
        sleep(LOOK_INTERVAL).await;
        // All at once, the output is there and the time is up.
        let output = vec![b'x'; 32 << 10];
        assert_eq!(rustix::io::write(&*worker.stdout, &output).unwrap(), output.len());
        advance(Duration::from_millis(if closes { 550 } else { 1850 })).await;
        let death = worker.killed().await.unwrap();
        assert_eq!(death.bytes_unread, output.len() as u64, "its end came first");
    }
}
