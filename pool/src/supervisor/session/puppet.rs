//! A session whose worker is in the hands of a test, with a process that is played.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::{Peer, proto};
use procpool_items::{ItemKind, SlabBuilder};
use procpool_scheduler::{ChunkId, GracePeriods, SlotId, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Session, Started};
use crate::call::CallStyle;
use crate::error::ExitUsage;
use crate::supervisor::config::MemoryLimits;
use crate::supervisor::interface::{ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind};
use crate::supervisor::output::Output;
use crate::supervisor::process_group::Process;

pub(super) const MAX_FRAME_BYTES: u32 = 16 << 20;
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const GRACE: GracePeriods = GracePeriods { cancel: Duration::from_secs(2), kill: Duration::from_secs(5) };
/// How often the played worker looks.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What there was to see when a process was killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub(super) at: Instant,
    /// How much of its output was not read.
    pub(super) bytes_unread: u64,
}

/// Where the session of a worker panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Panic {
    Nowhere,
    /// When it is told to terminate the worker.
    InTerminate,
    /// There, and when the worker is dead.
    InTerminateAndEnd,
}

/// A process that dies when it is killed.
#[derive(Debug)]
struct Puppet {
    death: Arc<watch::Sender<Option<Death>>>,
    stdout: Arc<OwnedFd>,
    panics: Panic,
}

impl Process for Puppet {
    fn pid(&self) -> u32 {
        1 << 30
    }

    fn announce(&self, _: u32) {}

    fn terminate(&self) {
        assert_eq!(self.panics, Panic::Nowhere, "as the test wants it");
    }

    fn resume(&self) {}

    fn kill(&self) {
        let bytes_unread = rustix::io::ioctl_fionread(&*self.stdout).unwrap();
        self.death.send_if_modified(|death| death.replace(Death { at: Instant::now(), bytes_unread }).is_none());
    }

    async fn dead(&self) {
        self.death.subscribe().wait_for(Option::is_some).await.unwrap();
    }

    fn end(&self) -> io::Result<(ExitStatus, ExitUsage)> {
        assert_ne!(self.panics, Panic::InTerminateAndEnd, "as the test wants it");
        Ok((ExitStatus::from_raw(9), ExitUsage::default()))
    }

    async fn reap(&self) {}
}

/// A worker without a progress page, in the hands of the test.
pub(super) struct Worker {
    pub(super) peer: Peer<WorkerFrame>,
    pub(super) stdout: Arc<OwnedFd>,
    pub(super) commands: mpsc::Sender<WorkerCommand>,
    pub(super) events: mpsc::Receiver<WorkerEvent>,
    pub(super) death: watch::Receiver<Option<Death>>,
    pub(super) session: JoinHandle<()>,
}

impl Worker {
    /// Returns a worker that is ready, and whose driver has room for so many events.
    pub(super) async fn ready(event_capacity: usize) -> Self {
        Self::start(event_capacity, Panic::Nowhere).await
    }

    /// Returns a worker as [`Worker::ready`] does, with a session that has a bug.
    pub(super) async fn start(event_capacity: usize, panics: Panic) -> Self {
        let (stream, socket) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).and_then(|()| socket.set_nonblocking(true)).unwrap();
        let (stdout_reader, stdout) = io::pipe().unwrap();
        let stdout = Arc::new(OwnedFd::from(stdout));
        let silent = || OwnedFd::from(io::pipe().unwrap().0);
        let death = Arc::new(watch::Sender::new(None));
        let started = Started {
            worker: WorkerId { slot: SlotId(0), generation: 1 },
            process: Puppet { death: Arc::clone(&death), stdout: Arc::clone(&stdout), panics },
            stream: tokio::net::UnixStream::from_std(stream).unwrap(),
            page: None,
            dumps: tokio::net::unix::pipe::Receiver::from_owned_fd(silent()).unwrap(),
            output: Output::new(stdout_reader.into(), silent(), None).unwrap(),
            max_frame_bytes: MAX_FRAME_BYTES,
            memory: MemoryLimits::default(),
            allow_pickle: false,
            watch: None,
        };
        let (event_sender, events) = mpsc::channel(event_capacity);
        let (commands, command_receiver) = mpsc::channel(32);
        #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of the test")]
        let session = tokio::spawn(Session::new(started, GRACE, event_sender).run(command_receiver));
        let peer = Peer::new(socket, MAX_FRAME_BYTES);
        let mut worker = Self { peer, stdout, commands, events, death: death.subscribe(), session };
        let functions = vec![proto::Function { name: "f".to_owned(), ..Default::default() }];
        let protocol_version = procpool_ipc::PROTOCOL_VERSION;
        worker.send(WorkerFrame::Hello(proto::Hello { protocol_version, functions, ..Default::default() }));
        worker.send(WorkerFrame::Ready(proto::Ready {}));
        // Started, Hello, Ready.
        for _ in 0..3 {
            worker.events.recv().await.unwrap();
        }
        worker
    }

    fn send(&mut self, frame: WorkerFrame) {
        self.peer.send(frame).unwrap();
    }

    /// Gives it a chunk of one item of so many bytes.
    pub(super) async fn run(&self, chunk: u64, item_bytes: usize, time_limit: Option<Duration>) {
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

    pub(super) fn begin(&mut self, chunk: u64) {
        self.send(WorkerFrame::Started(proto::Started { chunk, offset: 0 }));
    }

    pub(super) fn finish(&mut self, chunk: u64) {
        let mut items = SlabBuilder::new();
        items.push(b"y");
        let results = proto::Results { chunk, count: 1, items: items.take(), ..Default::default() };
        self.send(WorkerFrame::Results(results));
    }

    pub(super) fn pong(&mut self) {
        self.send(WorkerFrame::Pong(proto::Pong { nonce: 0 }));
    }

    /// Reads about so many bytes, if they are there, without waiting. Returns the frames that are whole.
    pub(super) fn read(&mut self, most: usize) -> Vec<ServerFrame> {
        let mut length = 0;
        while length < most {
            match self.peer.receive() {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        std::iter::from_fn(|| self.peer.received().unwrap()).collect()
    }

    /// Waits for a Ping, for a minute at most. Returns when it came.
    pub(super) async fn next_ping(&mut self) -> Option<Instant> {
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
    pub(super) async fn killed(&mut self) -> Option<Death> {
        let death = tokio::time::timeout(MINUTE, self.death.wait_for(Option::is_some)).await.ok()?;
        *death.unwrap()
    }

    /// Returns the next event.
    pub(super) async fn next(&mut self) -> WorkerEventKind {
        let event = tokio::time::timeout(MINUTE, self.events.recv()).await.expect("an event in time");
        event.expect("the last one has not come").kind
    }
}
