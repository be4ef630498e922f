//! A hostile worker, and a driver that believes nothing: fuzzed as `worker_session`, and run on its corpus as a test.
//!
//! The session is the real one, on a real socket and a real progress page; only the process is played. The worker
//! writes, and does, what the input says; the driver gives it chunks and holds every event against what it gave.
//!
//! # Input
//!
//! One byte of settings, then steps: a byte that says what (its low four bits) and how the step ends, then its
//! arguments. What is missing at the end is 0.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use procpool_ipc::page::PageReader;
use procpool_ipc::proto;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_items::{ItemKind, ItemSlab, SlabBuilder};
use procpool_scheduler::{ChunkId, GracePeriods, SlotId, WorkerId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::{Session, Started};
use crate::call::{CallStyle, CommonArgument};
use crate::error::{ExitUsage, WorkerExit};
use crate::supervisor::config::MemoryLimits;
use crate::supervisor::interface::{
    COMMAND_CAPACITY, ChunkCommon, ChunkResults, ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind,
};
use crate::supervisor::output::Output;
use crate::supervisor::process_group::Process;

const WORKER: WorkerId = WorkerId { slot: SlotId(3), generation: 7 };
/// No process has such a number, and no process group: whatever the worker says, no signal is sent.
const PID: u32 = 1 << 30;
const MAX_FRAME_BYTES: u32 = 4096;
const GRACE: GracePeriods = GracePeriods { cancel: Duration::from_secs(2), kill: Duration::from_secs(2) };
const JOURNAL_BYTES: u32 = 512;
const JOURNAL_OFFSET: u64 = 4096;
/// More than any session needs to end, by a clock that only runs while nothing else does.
const PATIENCE: Duration = Duration::from_secs(3600);
const MAX_TEXT_BYTES: usize = 64 << 10;

// How a step ends.
const WITHOUT_PAUSE: u8 = 0x80;
const WITHOUT_LISTENING: u8 = 0x40;

/// Plays what the input says against a session.
///
/// # Panics
///
/// If the session lets through what nobody asked for, forgets something, or does not end.
pub fn fuzz_session(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("the system has room for another runtime");
    runtime.block_on(async {
        let mut input = Input(data);
        let settings = input.byte();
        let mut play = Play::start(settings);
        if settings & 0x10 != 0 {
            play.say(hello(settings)).await;
            play.say(WorkerFrame::Ready(proto::Ready {})).await;
        }
        while !input.0.is_empty() && play.driver.exit.is_none() {
            play.step(&mut input).await;
        }
        let ended = tokio::time::timeout(PATIENCE, play.end()).await;
        assert!(ended.is_ok(), "the session does not end");
    });
}

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    /// Takes a length and so many bytes, or what is there.
    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }
}

/// A process that is dead when it was killed, or when the input says so.
#[derive(Debug)]
struct Puppet(Arc<watch::Sender<Option<i32>>>);

impl Puppet {
    fn die(&self, status: i32) {
        self.0.send_if_modified(|dead| dead.is_none() && dead.replace(status).is_none());
    }
}

impl Process for Puppet {
    fn pid(&self) -> u32 {
        PID
    }

    fn announce(&self, _: u32) {}

    fn resume(&self) {}

    fn terminate(&self) {
        // A hostile worker ignores it.
    }

    fn kill(&self) {
        self.die(9);
    }

    async fn dead(&self) {
        let mut status = self.0.subscribe();
        status.wait_for(Option::is_some).await.expect("the sender is ours");
    }

    fn end(&self) -> io::Result<(ExitStatus, ExitUsage)> {
        let status = self.0.borrow().expect("only a dead process is reaped");
        Ok((ExitStatus::from_raw(status), ExitUsage::default()))
    }

    async fn reap(&self) {}
}

/// One worker with its session and its driver.
struct Play {
    /// The worker's end; `None` once it has closed it.
    socket: Option<UnixStream>,
    page: Option<std::fs::File>,
    process: Puppet,
    session: JoinSet<()>,
    commands: mpsc::Sender<WorkerCommand>,
    driver: Driver,
}

impl Play {
    fn start(settings: u8) -> Self {
        let system = "the system has descriptors left";
        let (stream, socket) = UnixStream::pair().expect(system);
        stream.set_nonblocking(true).and_then(|()| socket.set_nonblocking(true)).expect(system);
        let (page, memory) = if settings & 0x04 == 0 {
            (None, None)
        } else {
            let (page, memory) = PageReader::create(JOURNAL_BYTES).expect(system);
            (Some(page), Some(std::fs::File::from(memory)))
        };
        let pipe = || OwnedFd::from(io::pipe().expect(system).0);
        let process = Puppet(Arc::default());
        let dumps = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe()).expect(system);
        let started = Started {
            worker: WORKER,
            process: Puppet(Arc::clone(&process.0)),
            stream: tokio::net::UnixStream::from_std(stream).expect(system),
            page,
            dumps,
            output: Output::new(pipe(), pipe(), None).expect(system),
            max_frame_bytes: MAX_FRAME_BYTES,
            memory: MemoryLimits::default(),
            allow_pickle: false,
            watch: None,
        };
        let (event_sender, events) = mpsc::channel(1 + usize::from(settings & 0x03));
        let (commands, command_receiver) = mpsc::channel(COMMAND_CAPACITY);
        let mut session = JoinSet::new();
        session.spawn(Session::new(started, GRACE, event_sender).run(command_receiver));
        Self { socket: Some(socket), page: memory, process, session, commands, driver: Driver::new(events) }
    }

    async fn step(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        match what & 0x0f {
            0 => self.write(&input.bytes()),
            1 => {
                let frame = input.bytes();
                self.write(&u32::try_from(frame.len()).expect("it is short").to_be_bytes());
                self.write(&frame);
            }
            2 => self.write_results(input),
            3 => self.write_frame(hello(input.byte())),
            4 => self.write_frame(WorkerFrame::Ready(proto::Ready {})),
            5 => {
                let (chunk, first_not_begun) = (self.driver.chunk_near(input.byte()), u32::from(input.byte()));
                self.write_frame(WorkerFrame::Recalled(proto::Recalled { chunk, first_not_begun }));
            }
            6 => {
                let (chunk, offset) = (self.driver.chunk_near(input.byte()), u32::from(input.byte()));
                self.write_frame(WorkerFrame::Started(proto::Started { chunk, offset }));
            }
            7 => {
                if let Some(run) = self.driver.next_run(input.byte(), input.byte()) {
                    self.command(WorkerCommand::Run(run));
                }
            }
            8 => {
                let (chunk, cancel) = (input.byte(), input.byte() & 1 != 0);
                if let Some(chunk) = self.driver.recall(chunk) {
                    self.command(WorkerCommand::Recall { chunk, cancel });
                }
            }
            9 => tokio::time::sleep(Duration::from_secs(u64::from(input.byte()))).await,
            10 => self.command(match input.byte() & 0x07 {
                0 => WorkerCommand::DropCommons(vec![1]),
                1 => WorkerCommand::Shutdown,
                2 => WorkerCommand::Terminate,
                3..=7 => WorkerCommand::Dump(oneshot::channel().0),
                _ => WorkerCommand::Kill,
            }),
            11 => {
                let (begun, begun_at) = (u64::from(input.byte()), u64::from(input.byte()) << 56);
                self.write_page(0, &begun.to_ne_bytes());
                self.write_page(24, &begun_at.to_ne_bytes());
            }
            12 => {
                let (first_sequence, claimed, journal) = (input.byte(), input.byte(), input.bytes());
                let length = (journal.len() as u64).wrapping_add_signed(i64::from(claimed.cast_signed()));
                self.write_page(8, &length.to_ne_bytes());
                self.write_page(16, &u64::from(first_sequence).to_ne_bytes());
                self.write_page(JOURNAL_OFFSET, &journal);
            }
            13 => self.process.die(i32::from(input.byte()) << 8),
            14 => self.socket = None,
            _ => tokio::time::sleep(Duration::from_millis(u64::from(input.byte()) * 8)).await,
        }
        if what & WITHOUT_PAUSE == 0 {
            self.pause().await;
        }
        if what & WITHOUT_LISTENING == 0 {
            self.driver.listen();
        }
    }

    /// Lets the session go on until it has nothing to do.
    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn say(&mut self, frame: WorkerFrame) {
        self.write_frame(frame);
        self.pause().await;
        self.driver.listen();
    }

    fn write_frame(&mut self, frame: WorkerFrame) {
        self.write(&procpool_ipc::encode_worker_frame(frame));
    }

    /// Writes results that are nearly right.
    fn write_results(&mut self, input: &mut Input<'_>) {
        let chunk = self.driver.chunk_near(input.byte());
        let (kind, received) = self.driver.state_of(chunk);
        let (first, count, records, failed) =
            (received.wrapping_add_signed(tweak(input)), u32::from(input.byte()), input.byte(), input.byte());
        let mut items = SlabBuilder::new();
        (0..count.wrapping_add_signed(i32::from(records.cast_signed())).min(300))
            .for_each(|_| items.push_placeholder(kind));
        let failure = |offset: u32| proto::ItemFailure {
            offset,
            kind: i32::from(failed >> 4),
            message: "é".repeat(usize::from(failed & 0x0f) << 5),
            ..proto::ItemFailure::default()
        };
        let failures = (0..u32::from(failed & 0x03)).map(|n| failure(first.wrapping_add(n)));
        self.write_frame(WorkerFrame::Results(proto::Results {
            chunk,
            first,
            count,
            failures: failures.collect(),
            busy_ns: u64::from(failed) << 56,
            items: items.take(),
        }));
    }

    fn write(&mut self, bytes: &[u8]) {
        // The session may have closed its end, or not read for long.
        if let Some(socket) = &mut self.socket {
            let _ = socket.write(bytes);
        }
    }

    fn write_page(&mut self, offset: u64, bytes: &[u8]) {
        if let Some(page) = &self.page {
            std::os::unix::fs::FileExt::write_all_at(page, bytes, offset).expect("the page is there");
        }
    }

    fn command(&self, command: WorkerCommand) {
        // The driver never has as many outstanding; here the session may not have had a turn, or have ended.
        let _ = self.commands.try_send(command);
    }

    /// Gives up the worker: its session ends whatever has happened, and the last event is its exit.
    async fn end(self) {
        let Self { mut session, commands, mut driver, .. } = self;
        drop(commands);
        while let Some(event) = driver.events.recv().await {
            driver.take(event);
        }
        while let Some(ended) = session.join_next().await {
            ended.expect("the session does not panic");
        }
        assert!(driver.exit.is_some(), "the session ended without a word");
    }
}

fn tweak(input: &mut Input<'_>) -> i32 {
    i32::from(input.byte().cast_signed())
}

fn hello(settings: u8) -> WorkerFrame {
    let function = |name: &str| proto::Function { name: name.to_owned(), ..proto::Function::default() };
    WorkerFrame::Hello(proto::Hello {
        protocol_version: procpool_ipc::PROTOCOL_VERSION,
        sdk: "fuzz".to_owned(),
        functions: vec![function("f"), function("g")],
        uses_progress_page: settings & 0x20 != 0,
        takes_common: settings & 0x40 != 0,
        ..proto::Hello::default()
    })
}

/// A chunk that the worker was given, and what came of it.
struct Given {
    kind: ItemKind,
    count: u32,
    received: u32,
    is_recalled: bool,
    is_answered: bool,
}

/// Gives chunks and holds every event against them.
struct Driver {
    events: mpsc::Receiver<WorkerEvent>,
    said_hello: bool,
    is_ready: bool,
    is_stopping: bool,
    /// The chunk with the number 1 is the first.
    chunks: Vec<Given>,
    exit: Option<WorkerExit>,
}

impl Driver {
    fn new(events: mpsc::Receiver<WorkerEvent>) -> Self {
        Self { events, said_hello: false, is_ready: false, is_stopping: false, chunks: Vec::new(), exit: None }
    }

    /// Returns the name of a chunk, the latest for 0; near the ends, of one that does not exist.
    fn chunk_near(&self, back: u8) -> u64 {
        (self.chunks.len() as u64).wrapping_sub(u64::from(back))
    }

    /// Returns the kind of a chunk and how many results have come, for the worker's lies to be near the truth.
    fn state_of(&self, chunk: u64) -> (ItemKind, u32) {
        let given = usize::try_from(chunk.wrapping_sub(1)).ok().and_then(|index| self.chunks.get(index));
        given.map_or((ItemKind::Values, 0), |given| (given.kind, given.received))
    }

    /// Returns a chunk for the worker, as the driver would: not before it is ready, and not a third at a time.
    fn next_run(&mut self, count: u8, how: u8) -> Option<ChunkRun> {
        let num_open = self.chunks.iter().filter(|given| given.received < given.count).count();
        if !self.is_ready || num_open >= 2 {
            return None;
        }
        let count = 1 + u32::from(count);
        let kind = if how & 1 == 0 { ItemKind::Values } else { ItemKind::Blobs };
        self.chunks.push(Given { kind, count, received: 0, is_recalled: false, is_answered: false });
        let mut items = SlabBuilder::new();
        (0..count).for_each(|_| items.push_placeholder(kind));
        let mut parts = vec![items.take()];
        // Now and then, a chunk that no frame holds, or an argument that the worker does not take.
        parts.extend((how & 0x0e == 0x0e).then(|| vec![0; MAX_FRAME_BYTES as usize].into()));
        let argument = CommonArgument { kind, content_type: String::new(), bytes: kind.placeholder().into() };
        let has_common = how & 0x10 != 0;
        Some(ChunkRun {
            chunk: ChunkId(self.chunks.len() as u64),
            job: 1,
            function: "f".into(),
            kind,
            content_type: "".into(),
            style: CallStyle::Map,
            first_index: 0,
            count,
            attempt: 1,
            time_limit: (how & 0x40 != 0).then_some(Duration::from_millis(5)),
            trace: Arc::default(),
            common: has_common.then(|| ChunkCommon { common: 1, argument: (how & 0x20 != 0).then_some(argument) }),
            parts,
        })
    }

    /// Returns the name of a chunk to recall, if the driver could not know yet that it has finished.
    fn recall(&mut self, back: u8) -> Option<ChunkId> {
        let chunk = self.chunk_near(back);
        let given = self.chunks.get_mut(usize::try_from(chunk.checked_sub(1)?).ok()?)?;
        if given.received == given.count {
            return None;
        }
        given.is_recalled = true;
        Some(ChunkId(chunk))
    }

    fn listen(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    fn take(&mut self, event: WorkerEvent) {
        assert!(self.exit.is_none(), "{event:?} comes after the exit");
        assert_eq!(event.worker, WORKER);
        match event.kind {
            WorkerEventKind::Started { pid } => assert!(pid == PID && !self.said_hello),
            WorkerEventKind::Hello { pid, functions, .. } => {
                assert!(!self.said_hello && pid > 0);
                self.said_hello = true;
                assert!(functions.iter().all(|function| !function.name.is_empty() && function.name.len() <= 256));
            }
            WorkerEventKind::Ready => {
                assert!(self.said_hello && !self.is_ready);
                self.is_ready = true;
            }
            WorkerEventKind::Results(results) => self.take_results(&results),
            WorkerEventKind::Recalled { chunk, first_not_begun } => {
                let given = self.given(chunk);
                assert!(given.is_recalled && !given.is_answered, "nobody asked");
                assert!((given.received..=given.count).contains(&first_not_begun));
                given.is_answered = true;
                given.count = first_not_begun;
            }
            WorkerEventKind::ItemExpired { chunk, offset, stack } => {
                assert_eq!(stack, "", "there are no dumps");
                let given = self.given(chunk);
                assert!((given.received..given.count).contains(&offset), "this item does not run");
                given.is_recalled = true;
            }
            WorkerEventKind::Stopping { .. } => assert!(!std::mem::replace(&mut self.is_stopping, true), "once"),
            WorkerEventKind::MemoryHigh => panic!("it holds no memory, and there is no limit"),
            WorkerEventKind::Exited { exit, running, stderr_tail, .. } => {
                assert_eq!(stderr_tail, "");
                if let Some((chunk, offset)) = running {
                    let given = self.given(chunk);
                    assert!(offset == given.received && offset < given.count, "this item cannot have been running");
                }
                self.exit = Some(exit);
            }
        }
    }

    fn take_results(&mut self, results: &ChunkResults) {
        let given = self.given(results.chunk);
        assert_eq!(results.first, given.received, "results come in order and without gaps");
        assert!(results.count > 0 && results.count <= given.count - given.received, "results that nobody asked for");
        let items = ItemSlab::parse(given.kind, results.items.clone()).expect("the session checks results");
        assert_eq!(items.len(), results.count as usize);
        let end = results.first + results.count;
        let offsets: Vec<u32> = results.failures.iter().map(|(offset, _)| *offset).collect();
        assert!(offsets.is_sorted_by(|before, after| before < after));
        assert!(offsets.iter().all(|offset| (results.first..end).contains(offset)));
        assert!(results.failures.iter().all(|(_, failure)| failure.to_string().len() <= 3 * MAX_TEXT_BYTES));
        given.received = end;
    }

    fn given(&mut self, chunk: ChunkId) -> &mut Given {
        let index = usize::try_from(chunk.0).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| self.chunks.get_mut(index)).expect("a chunk that the worker was given")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_the_worker_session() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/worker_session");
        for input in std::fs::read_dir(corpus).unwrap() {
            super::fuzz_session(&std::fs::read(input.unwrap().path()).unwrap());
        }
    }
}
